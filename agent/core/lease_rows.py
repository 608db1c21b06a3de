# SPDX-License-Identifier: GPL-2.0-or-later
"""The rows of a lease's two tables: of the vote that a node has, and of the claim that it lays.

A vote is QUIET after its machine was started, FREE, or PROMISED. A claim is IDLE where it is not
wanted, ASKED while it is on its way, REFUSED where a try came to nothing, HELD, or LOST where it
was held and was not renewed in time.
"""

from agent.core.table import Row

QUIET, FREE, PROMISED = "quiet", "free", "promised"
VOTER_STATES = (QUIET, FREE, PROMISED)
IDLE, ASKED, REFUSED, HELD, LOST = "idle", "asked", "refused", "held", "lost"
HOLDER_STATES = (IDLE, ASKED, REFUSED, HELD, LOST)

VOTER_ROWS = (
    Row("V-HOLDS", "*", "asked", ("holds",), "", ("refuse",), "this node holds it itself"),
    Row("V-RENEW", PROMISED, "asked", ("to_asker", "remembers"), "", ("promise", "grant"),
        "promised to it already", quiet=True),
    Row("V-RENEW-QUIET", PROMISED, "asked", ("to_asker", "asker_holds"), "", ("promise", "grant"),
        "promised to it already, and it holds it", quiet=True),
    Row("V-RENEW-SOFT", PROMISED, "asked", ("to_asker",), "", ("promise", "grant_softly"),
        "promised to it already, and nothing is known of the time before", quiet=True),
    Row("V-LAST", "*", "asked", ("owned_last",), "", ("refuse",),
        "this node owned the group last, or does not know yet whether it did: nobody else is asked"
        " there, so its word binds"),
    Row("V-YIELD", PROMISED, "asked",
        ("to_ourselves", "attempting", "goes_first", "remembers"), "",
        ("withdraw", "promise", "grant"),
        "both want it and nobody has it: the preferred node goes first"),
    Row("V-YIELD-SOFT", PROMISED, "asked",
        ("to_ourselves", "attempting", "goes_first", "blank"), "",
        ("withdraw", "promise", "grant_softly"),
        "both want it, just started: the preferred node goes first"),
    Row("V-VOID", PROMISED, "asked", ("to_fallen", "remembers"), "", ("promise", "grant"),
        "the node that it was promised to is proven to be off"),
    Row("V-TAKEN", PROMISED, "asked", (), "", ("refuse",), "promised to another node"),
    Row("V-HEARS-HOLDER", QUIET, "asked", ("asker_holds",), PROMISED, ("promise", "grant"),
        "nothing is remembered, and this one holds it: it was confirmed a moment ago"),
    Row("V-SOFT", QUIET, "asked", ("blank",), PROMISED, ("promise", "grant_softly"),
        "nothing is remembered and nothing runs here: a yes that counts if all others say it too"),
    Row("V-QUIET", QUIET, "asked", (), "", ("refuse",),
        "nothing is remembered: another node may have been promised it, for a whole lease"),
    Row("V-GRANT", FREE, "asked", (), PROMISED, ("promise", "grant"), "nobody has it"),
    Row("V-ENDED", PROMISED, "ended", ("that_one", "remembers"), FREE, ("forget",),
        "the node that it was promised to gave it up", quiet=True),
    Row("V-ENDED-QUIET", PROMISED, "ended", ("that_one",), QUIET, ("forget",),
        "the node that it was promised to gave it up", quiet=True),
    Row("V-EXPIRED", PROMISED, "expired", ("remembers",), FREE, ("forget",),
        "the promise is over", quiet=True),
    Row("V-EXPIRED-QUIET", PROMISED, "expired", (), QUIET, ("forget",),
        "the promise is over", quiet=True),
    Row("V-AWAKE", QUIET, "expired", (), FREE, (),
        "quiet for a whole lease: whatever was promised before is over", quiet=True),
)  # fmt: skip

HOLDER_ROWS = (
    Row("L-CLAIM", IDLE, "claim", (), ASKED, ("begin", "ask"), "the agent wants it: ask them all"),
    Row("L-HELD", ASKED, "majority", (), HELD, ("new_term",), "a majority promised its votes"),
    Row("L-HELD-2", REFUSED, "majority", (), HELD, ("new_term",), "a majority promised its votes"),
    Row("L-HELD-3", LOST, "majority", (), HELD, ("new_term",),
        "a majority promised its votes again"),
    Row("L-RENEWED", HELD, "majority", (), "", (), "renewed", quiet=True),
    Row("L-SHORT", ASKED, "short", (), REFUSED, (),
        "no majority answered, or another node has it: ask on"),
    Row("L-REST", REFUSED, "due", ("attempt_over",), "", ("end", "free", "rest"),
        "asked for long: give back what votes there are, so that others may have a turn",
        quiet=True),
    Row("L-REST-LOST", LOST, "due", ("attempt_over",), "", ("end", "rest"),
        "asked for long: others may have a turn, but not this node's own vote while it is wanted",
        quiet=True),
    Row("L-ASK", ASKED, "due", (), "", ("ask",), "ask again", quiet=True),
    Row("L-ASK-2", REFUSED, "due", (), "", ("ask",), "ask again", quiet=True),
    Row("L-ASK-3", LOST, "due", (), "", ("ask",), "ask again", quiet=True),
    Row("L-RENEW", HELD, "due", (), "", ("ask",), "renew it", quiet=True),
    Row("L-STATIC", HELD, "lapsed", ("static",), "", (),
        "nobody answers, and nobody gets a majority without this node: go on", quiet=True),
    Row("L-LOST", HELD, "lapsed", (), LOST, ("lose",),
        "no majority renewed it in time: another node may have it in a moment, so stop"),
    Row("L-USURPED", HELD, "usurped", (), LOST, ("lose",),
        "another node holds it, and was given it later: this one stood still, or was overruled"),
    Row("L-END", "*", "unclaim", ("wanted",), IDLE, ("end", "free"),
        "the agent does not want it any more: its votes are free", quiet=True),
)  # fmt: skip
