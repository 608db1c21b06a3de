# SPDX-License-Identifier: GPL-2.0-or-later
"""Calls through the floating address: sipp at both ends, and a watcher that hears all of it."""

from __future__ import annotations

import json
import re
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tests.lab import plan as places
from tests.lab.measure import Watcher
from tests.lab.netns import SWITCH, Cable, LabError, command, now_ms, wait_until
from tests.lab.plan import LONDON, Plan, addresses, one_lan
from tests.lab.sip_calls import CALLER, CARRIER, RING_MS, Call, Message, trace
from tests.lab.sip_servers import CARRIER_PORT, SIP_PORT
from tests.lab.world import ROOT, World

CALLER_PORT = 5061
MOST_CALLS = 2000  # sipp slows down at this number: more than ever stand

SDP = """v=0
o=- 1 1 IN IP4 [media_ip]
s=-
c=IN IP4 [media_ip]
t=0 0
m=audio 6000 RTP/AVP 0
"""
HEAD = """Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
      Max-Forwards: 70
      From: <sip:caller@[local_ip]>;tag=[call_number]
      Call-ID: [call_id]
      Contact: <sip:caller@[local_ip]:[local_port]>"""
# Where the Contact of the 200 leads, ACK and BYE go: a socket for each call lets sipp do that.
FOLLOW = """<action>
      <ereg regexp="@([0-9.]+):([0-9]+)" search_in="hdr" header="Contact:"
        assign_to="all,host,port"/>
      <setdest host="[$host]" port="[$port]" protocol="udp"/>
    </action>"""
CALLER_SCENARIO = f"""<?xml version="1.0" encoding="UTF-8"?>
<scenario name="caller">
  <send retrans="500"><![CDATA[
      INVITE sip:[call_number]@[remote_ip]:[remote_port] SIP/2.0
      {HEAD}
      To: <sip:[call_number]@[remote_ip]>
      CSeq: 1 INVITE
      Content-Type: application/sdp
      Content-Length: [len]

{SDP}]]></send>
  <recv response="100" optional="true"/>
  <recv response="180" optional="true"/>
  <recv response="200" rrs="true">@FOLLOW@</recv>
  <send><![CDATA[
      ACK [next_url] SIP/2.0
      {HEAD}
      To: <sip:[call_number]@[remote_ip]>[peer_tag_param]
      [routes]
      CSeq: 1 ACK
      Content-Length: 0

]]></send>
  <pause milliseconds="@TALK@"/>
  <send retrans="500"><![CDATA[
      BYE [next_url] SIP/2.0
      {HEAD}
      To: <sip:[call_number]@[remote_ip]>[peer_tag_param]
      [routes]
      CSeq: 2 BYE
      Content-Length: 0

]]></send>
  <recv response="200"/>
  @SINK@
</scenario>
"""
SINK = '<Reference variables="all"/>'

_ANSWER = """[last_Via:]
      [last_From:]
      [last_To:]@TAG@
      [last_Call-ID:]
      [last_CSeq:]"""
_TAGGED = _ANSWER.replace("@TAG@", ";tag=[call_number]")
CARRIER_SCENARIO = f"""<?xml version="1.0" encoding="UTF-8"?>
<scenario name="carrier">
  <recv request="INVITE" rrs="true"/>
  <send><![CDATA[
      SIP/2.0 180 Ringing
      {_TAGGED}
      [last_Record-Route:]
      Contact: <sip:carrier@[local_ip]:[local_port]>
      Content-Length: 0

]]></send>
  <pause milliseconds="{RING_MS:.0f}"/>
  <send retrans="500"><![CDATA[
      SIP/2.0 200 OK
      {_TAGGED}
      [last_Record-Route:]
      Contact: <sip:carrier@[local_ip]:[local_port]>
      Content-Type: application/sdp
      Content-Length: [len]

{SDP}]]></send>
  <recv request="ACK"/>
  <recv request="BYE"/>
  <send><![CDATA[
      SIP/2.0 200 OK
      {_ANSWER.replace("@TAG@", "")}
      Content-Length: 0

]]></send>
  <timewait milliseconds="4000"/>
</scenario>
"""


def sip_plan() -> Plan:
    """Two nodes, the caller (the plan's client) and the carrier, on one LAN."""
    plan = one_lan()
    cable = Cable(CARRIER, places.LAN, LONDON, addresses(LONDON, 201))
    return Plan(plan.networks, (*plan.cables, cable), plan.sites, plan.gateways)


class SipWatch(Watcher):
    """Every SIP message at both ends, and the answers to OPTIONS."""

    def __init__(self, world: World, floating: str) -> None:
        ends = {CALLER: world.client, CARRIER: world.host(CARRIER)}
        options = {
            "switch": world.fabric.namespace(SWITCH),
            "ends": {host.ports[places.LAN].name: end for end, host in ends.items()},
            "port": SIP_PORT,
            "namespace": world.client.namespace,
            "floating": floating,
        }
        self.macs = {_mac(world, name): name for name in world.plan.nodes}
        self._kind = "sip"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.lab.sip_watchers", "sip", json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            cwd=ROOT,
        )
        self._read()
        world.keep(self)

    def answered(self) -> int:
        """How many of the caller's calls, so far."""
        return int(self._ask("latest")[CALLER])

    def record(self, talk_ms: float) -> tuple[list[Call], list[float], list[float | None]]:
        """The calls, each of so long a talk; OPTIONS sent, and when each was answered."""
        notes = self._ask("record")
        messages = [
            Message(at_ms, end, bool(sent), self.macs.get(mac, ""), *rest)
            for at_ms, end, sent, mac, *rest in notes["messages"]
        ]
        return trace(messages, talk_ms), notes["asked"], notes["answered"]


def _mac(world: World, node: str) -> str:
    namespace = world.node(node).namespace
    link = json.loads(command("ip", "-j", "-n", namespace, "link", "show", "dev", places.LAN))
    return str(link[0]["address"])


class Load:
    """sipp at both ends. rate: calls a second; `follow`: the caller follows the Contact, as
    telephones do.
    """

    def __init__(
        self, world: World, floating: str, rate: float, talk_ms: float, *, follow: bool
    ) -> None:
        if shutil.which("sipp") is None:
            raise LabError("sipp is not on this machine; run: sudo make test (it installs it)")
        self.world, self.floating, self.rate = world, floating, rate
        self.talk_ms, self.follow = talk_ms, follow
        self.caller, self.carrier = world.client, world.host(CARRIER)
        self._calling: subprocess.Popen[bytes] | None = None

    @property
    def every_ms(self) -> float:
        """From one call's beginning to the next one's."""
        return 1000 / self.rate

    def start(self) -> None:
        listening = ["-sf", self._scenario(CARRIER, CARRIER_SCENARIO), "-p", str(CARRIER_PORT)]
        listening += ["-i", self.carrier.address, "-default_behaviors", "all,-abortunexp"]
        self.carrier.start("sipp", *listening, "-nostdin", "-fd", "3600", log="sipp.log")
        wait_until(self._listens, "the carrier listens")
        text = CALLER_SCENARIO.replace("@FOLLOW@", FOLLOW if self.follow else "")
        text = text.replace("@TALK@", str(round(self.talk_ms)))
        text = text.replace("@SINK@", SINK if self.follow else "")
        calling = ["-sf", self._scenario(CALLER, text), "-i", self.caller.address]
        calling += ["-t", "un" if self.follow else "u1", "-p", str(CALLER_PORT)]
        calling += ["-r", str(round(self.rate * 60)), "-rp", "60000", "-l", str(MOST_CALLS)]
        target = f"{self.floating}:{SIP_PORT}"
        calling += ["-nostdin", "-fd", "3600", "-max_socket", str(MOST_CALLS), target]
        self._calling = self.caller.start("sipp", *calling, log="sipp.log")

    def _scenario(self, name: str, text: str) -> str:
        path: Path = self.world.folder / f"{name}.xml"
        path.write_text(text)
        return str(path)

    def _listens(self) -> bool:
        return bool(re.search(rf":{CARRIER_PORT}\b", self.carrier.run("ss", "-Hunl").stdout))

    def alive(self) -> bool:
        return self._calling is not None and self._calling.poll() is None

    def hush(self) -> None:
        """No new calls; those that are up go on."""
        assert self._calling
        self._calling.send_signal(signal.SIGUSR1)

    def wait(self, limit_s: float) -> None:
        """Until every call is over, or the limit."""
        assert self._calling
        deadline_ms = now_ms() + limit_s * 1000
        while self.alive() and now_ms() < deadline_ms:
            select.select([], [], [], 0.05)
