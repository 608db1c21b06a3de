# SPDX-License-Identifier: GPL-2.0-or-later
"""The laboratory's servers: names move, traps arrive, a UPS loses its mains."""

from __future__ import annotations

import signal

from tests.lab.measure import AddressWatch, NameWatch, Prober, WireWatch
from tests.lab.netns import now_ms, wait_until
from tests.lab.servers import Keepalived, Names
from tests.lab.snmp import Traps, Ups
from tests.lab.world import World

VIP = "10.1.0.100"


def test_keepalived_fails_over_and_its_packets_are_seen(lan: World) -> None:
    one, two = lan.node("lon1"), lan.node("lon2")
    for node in (one, two):
        node.tell_patient("start")
    prober, watch, wire = Prober(lan, VIP), AddressWatch(lan), WireWatch(lan)
    for priority, node in ((200, one), (100, two)):
        Keepalived(lan, node, [f"{VIP}/24"], priority=priority, advert_s=0.1)
    wait_until(
        lambda: watch.owners(VIP) == {"lon1"} and prober.served_by() == "lon1", "lon1 is active"
    )
    at_ms = one.power_cut()
    wait_until(lambda: prober.served_by() == "lon2", "lon2 is active")
    probes, owned, traffic = prober.record(), watch.record(), wire.record()
    assert owned.owners(VIP) == {"lon2"}
    assert probes.outage_ms(at_ms) > 100
    assert {
        (advert.node, advert.priority) for advert in traffic.adverts if advert.at_ms < at_ms
    } == {("lon1", 200)}
    assert ("lon2", 100) in {
        (advert.node, advert.priority) for advert in traffic.adverts if advert.at_ms > at_ms
    }
    assert "lon2" in {
        entry.node
        for entry in traffic.announcements
        if entry.address == VIP and entry.at_ms > at_ms
    }


def test_a_signed_update_moves_the_answer_of_secondary_and_resolver(sites: World) -> None:
    names = Names(sites, records=["sip 1 IN A 10.1.0.100"])
    watch = NameWatch(sites, "sip.example.net")
    wait_until(lambda: watch.answer() == ("10.1.0.100",), "the client learns the name")
    update = """server 192.0.2.53
update delete sip.example.net A
update add sip.example.net 1 A 10.2.0.100
send
"""
    unsigned = sites.client.run("nsupdate", text=update, check=False)
    assert "REFUSED" in unsigned.stderr
    at_ms = now_ms()
    sites.client.run("nsupdate", "-k", str(names.key_file), text=update)
    wait_until(
        lambda: names.answer(names.secondary_host, "sip.example.net") == ("10.2.0.100",),
        "the secondary follows",
    )
    wait_until(lambda: watch.answer() == ("10.2.0.100",), "the client is sent to the other site")
    record = watch.record()
    moved_ms = record.first(["10.2.0.100"], at_ms)
    assert moved_ms is not None
    assert moved_ms > at_ms
    assert record.first(["10.1.0.100"], at_ms) == at_ms
    assert record.first(["10.9.9.9"]) is None
    names.primary.stop(signal.SIGKILL)
    assert names.answer(names.secondary_host, "sip.example.net") == ("10.2.0.100",)
    names.primary.start()
    assert names.answer(names.primary_host, "sip.example.net") == ("10.2.0.100",)


def test_traps_and_informs_arrive_with_what_they_carry(sites: World) -> None:
    traps = Traps(sites)
    sender = sites.node("lon1")
    on_battery, lines = ".1.3.6.1.2.1.33.2.0.1", ".1.3.6.1.2.1.33.1.2.3.0"
    at_ms = now_ms()
    sender.run("snmptrap", "-v2c", "-c", "public", traps.address, "", on_battery, lines, "i", "8")
    first = traps.wait_for(on_battery)
    assert first.at_ms > at_ms
    assert first.value(lines) == "8"
    text = "first line\nsecond line, with = and \t tab"
    test = ".1.3.6.1.4.1.8072.9999.1"
    sender.run("snmpinform", *traps.user.options(), traps.address, "", test, f"{test}.1", "s", text)
    second = traps.wait_for(test)
    assert (second.value(f"{test}.1") or "").strip('"') == text
    sender.run("snmptrap", "-v2c", "-c", "stranger", traps.address, "", f"{test}.2")
    sender.run("snmpinform", "-v2c", "-c", "public", traps.address, "", f"{test}.3")
    traps.wait_for(f"{test}.3")
    traps.stop()
    lost = ["-v2c", "-c", "public", "-r", "0", "-t", "0.2", traps.address, "", f"{test}.4"]
    assert sender.run("snmpinform", *lost, check=False).returncode == 1
    traps.start()
    sender.run("snmpinform", *traps.user.options(), traps.address, "", f"{test}.5")
    traps.wait_for(f"{test}.5")
    assert [trap.oid for trap in traps.all()] == [on_battery, test, f"{test}.3", f"{test}.5"]


def test_the_ups_goes_to_battery_and_back_as_told(sites: World) -> None:
    ups = Ups(sites)
    source, minutes, seconds = (f"1.3.6.1.2.1.33.1.{tail}.0" for tail in ("4.1", "2.3", "2.2"))
    assert (
        ups.get(source, minutes, seconds)
        == ups.get(source, minutes, seconds, v3=True)
        == ["3", "45", "0"]
    )
    ups.on_battery(minutes=8)
    assert ups.get(source, minutes) == ups.get(source, minutes, v3=True) == ["5", "8"]
    wait_until(lambda: int(ups.get(seconds)[0]) > 0, "the time on battery runs")
    ups.on_battery(minutes=2, low=True)
    assert ups.get(minutes, "1.3.6.1.2.1.33.1.2.1.0") == ["2", "3"]
    ups.on_mains()
    assert ups.get(source, minutes, seconds, v3=True) == ["3", "45", "0"]
    walk = sites.node("lon1").run(
        "snmpbulkwalk", "-v2c", "-c", "public", "-Onq", ups.address, "1.3.6.1.2.1.33"
    )
    # snmpsim repeats the end of the view in a bulk answer
    assert len([line for line in walk.stdout.splitlines() if "No more variables" not in line]) == 18
