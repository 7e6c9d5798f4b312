"""A port that stays ours while nobody listens on it."""

from __future__ import annotations

import socket
import sys

import pytest

from harness.address import Address
from harness.proxy.ports import Reservation, resolved

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps such a port")


def target(reservation: Reservation) -> tuple[str, int]:
    return reservation.address.host, reservation.address.port


def test_a_reservation_says_which_port_the_system_chose():
    """Port 0 is never the answer."""
    reservation = Reservation("127.0.0.1")

    assert reservation.address.host == "127.0.0.1"
    assert reservation.address.port > 0
    reservation.close()


def test_connecting_to_a_reserved_port_is_refused():
    """Nobody listens there, and no connection meets itself there."""
    reservation = Reservation("127.0.0.1")

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(target(reservation), timeout=5)
    reservation.close()


@only_linux
def test_a_reserved_port_is_not_given_to_others():
    """A bind without leave fails, and the system chooses other ports."""
    reservation = Reservation("127.0.0.1")

    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(target(reservation))
    others = [Reservation("127.0.0.1") for _ in range(200)]
    assert reservation.address not in [other.address for other in others]
    for kept in (reservation, *others):
        kept.close()


@only_linux
def test_no_outgoing_connection_is_given_a_reserved_port():
    """As the local end of a connection it would make the listener's next start fail."""
    reservation = Reservation("127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        ends = [socket.create_connection(server.getsockname()) for _ in range(50)]
        used = [end.getsockname()[1] for end in ends]
        for end in ends:
            end.close()

    assert reservation.address.port not in used
    reservation.close()


@only_linux
def test_a_listener_can_take_a_reserved_port_and_give_it_back():
    """Start, stop, start again: served, refused, served."""
    reservation = Reservation("127.0.0.1")
    for _ in range(2):
        with socket.create_server(target(reservation)):
            socket.create_connection(target(reservation), timeout=5).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(target(reservation), timeout=5)
    reservation.close()


def test_a_port_in_use_is_not_reserved():
    """The error is the system's, and no socket is left open."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(OSError, match="in use"),
    ):
        Reservation("127.0.0.1", server.getsockname()[1])


def test_an_address_of_another_machine_is_not_reserved():
    """Nothing can listen there."""
    with pytest.raises(OSError, match="assign"):
        Reservation("192.0.2.1")


def test_a_closed_reservation_gives_its_port_back():
    """Closing twice does no harm."""
    reservation = Reservation("127.0.0.1")
    reservation.close()
    reservation.close()

    with socket.socket() as other:
        other.bind(target(reservation))


def test_ipv6_is_reserved_as_well():
    """Written with brackets."""
    try:
        reservation = Reservation("::1")
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")

    assert str(reservation.address) == f"[::1]:{reservation.address.port}"
    reservation.close()


async def test_a_name_is_resolved_to_numbers():
    """IPv4 first, port kept."""
    assert await resolved(Address("localhost", 0)) == Address("127.0.0.1", 0)
    assert await resolved(Address("127.0.0.1", 7)) == Address("127.0.0.1", 7)
    assert await resolved(Address("::1", 7)) == Address("::1", 7)


@pytest.mark.parametrize("host", ["host.invalid", "a" * 70, "a..b", "nul\0"])
async def test_a_name_that_is_none_is_an_error_of_the_system(host: str):
    """Whatever Python calls it: too long, empty in the middle, unknown."""
    with pytest.raises(OSError):
        await resolved(Address(host, 80))
