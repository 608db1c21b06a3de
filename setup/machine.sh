#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Brings a fresh Debian 12 to where the tree can be run and tested; says only what it changes. Safe to run at any time.
#   setup/machine.sh root TARGET   refuse, with the line to run, unless root
#   setup/machine.sh packages      the laboratory's Debian packages, their services left stopped
#   setup/machine.sh venv          .venv: run-time and development tools, and .venv/bin/standpipe
#   setup/machine.sh lab           .venv-lab: the SNMP simulator
set -eu
cd "$(dirname "$0")/.."
tree=$(pwd)
log=$tree/build/setup.log
mkdir -p build

# package, and why the tree needs it
base='
python3-venv     makes .venv
ca-certificates  lets pip trust the package index
'
laboratory='
iproute2         ip and bridge: the laboratory is made of network namespaces
nftables         nft: silent and one-way cuts
bind9            named: the name servers that updates are proved on
bind9-dnsutils   dig and nsupdate
bind9-utils      tsig-keygen and named-checkconf
snmp             snmpget and snmptrap: the other end of every SNMP proof
snmpd            an agent to poll
snmptrapd        an NMS that acknowledges traps
keepalived       the VRRP peer and the yardstick
frr              vrrpd and zebra: the VRRP router that is no keepalived
dbus             a bus for the systemd driver
kamailio         the SIP proxy that calls go through
sip-tester       sipp: callers and a carrier
ipmitool         fencing by IPMI
openipmi         ipmi_sim: a BMC to fence by
apache2-bin      WebDAV: the folder in a cloud
mmdebstrap       Debian roots for the appliances of bench-cold
systemd-container  systemd-nspawn, which boots them
'
units='named snmpd snmptrapd snmptrapd.socket keepalived frr kamailio openipmi'

fail() {
    echo "setup: $1" >&2
    exit 1
}

quietly() { # quietly WHAT-NOW COMMAND...: output goes to the log and is shown only when the command fails
    what_now=$1
    shift
    if ! "$@" >>"$log" 2>&1; then
        tail -n 20 "$log" >&2
        fail "'$*' failed (above, whole in build/setup.log); $what_now"
    fi
}

missing() { # missing TABLE: its rows whose package is not installed
    echo "$1" | while read -r name why; do
        [ -n "$name" ] || continue
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null || true)" = installed ] || echo "$name  $why"
    done
}

restore_policy() {
    rm -f /usr/sbin/policy-rc.d
    if [ -e /usr/sbin/policy-rc.d.standpipe ]; then mv /usr/sbin/policy-rc.d.standpipe /usr/sbin/policy-rc.d; fi
}

packages() { # packages TABLE
    absent=$(missing "$1")
    [ -n "$absent" ] || return 0
    names=$(echo "$absent" | cut -d' ' -f1 | tr '\n' ' ')
    [ "$(id -u)" = 0 ] || fail "these Debian packages are missing: ${names% }; run: sudo apt-get install ${names% }"
    echo "setup: installing Debian packages (their services stay stopped):"
    echo "$absent" | while read -r name why; do printf '  %-16s %s\n' "$name" "$why"; done
    export DEBIAN_FRONTEND=noninteractive
    quietly 'check the network and /etc/apt/sources.list' apt-get update -q
    # Nothing that a package starts may listen on this machine: 101 is "forbidden by policy" (invoke-rc.d(8)).
    trap restore_policy EXIT
    trap 'exit 130' INT TERM HUP
    if [ -e /usr/sbin/policy-rc.d ]; then mv /usr/sbin/policy-rc.d /usr/sbin/policy-rc.d.standpipe; fi
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
    # shellcheck disable=SC2086  # names is a list
    quietly 'run apt-get -f install and try again' apt-get install -q -y --no-install-recommends $names
    restore_policy
    trap - EXIT INT TERM HUP
    for unit in $units; do # those that came just now would start at the next boot
        package=$unit
        [ "$unit" != named ] || package=bind9
        case " $names " in *" $package "*)
            rm -f /etc/systemd/system/*.wants/"$unit".*
            update-rc.d "$unit" disable >>"$log" 2>&1 || true ;;
        esac
    done
}

python() { # the first Python >= 3.11 that can make a venv
    for candidate in /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

made_from() { # made_from LOCK...: what a venv depends on: its locks, this script, our version and this place
    version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
    echo "$(cat "$@" setup/machine.sh | sha256sum) $version $tree"
}

current() { # current VENV LOCK...
    venv=$1
    shift
    [ -x "$venv/bin/python" ] && [ "$(cat "$venv/.made-from" 2>/dev/null)" = "$(made_from "$@")" ]
}

install() { # install VENV LOCK...: VENV holds exactly what the locks say, checked by hash
    venv=$1
    shift
    exec 9>"build/${venv#.}.lock" # two makes at once: the second waits, then finds it made
    flock 9
    ! current "$venv" "$@" || return 0
    if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1 || ! grep -qsF "$tree/$venv" "$venv/bin/activate"; then
        interpreter=$(python) || fail "no Python 3.11 or newer with venv here; run: sudo apt-get install python3-venv"
        echo "setup: making $venv with $("$interpreter" -V)"
        rm -rf "$venv"
        quietly 'is the disk full?' "$interpreter" -m venv "$venv"
    fi
    echo "setup: installing what $* lock into $venv"
    locks=
    for lock in "$@"; do locks="$locks -r $lock"; done
    # shellcheck disable=SC2086  # locks is a list
    quietly 'check the network; a wrong hash means: make lock, and look at what changed' \
        "$venv/bin/python" -m pip install --disable-pip-version-check --no-deps --require-hashes $locks
    "$venv/bin/python" -m pip list --disable-pip-version-check --format=freeze | cut -d= -f1 | tr '_.' '--' |
        while read -r name; do
            [ "$name" = pip ] || [ "$name" = standpipe ] || grep -qi "^$name==" "$@" ||
                quietly 'remove the venv and try again' "$venv/bin/python" -m pip uninstall -q -y "$name" </dev/null
        done
    quietly 'the locks disagree: make lock' "$venv/bin/python" -m pip check --disable-pip-version-check
}

command_from_tree() { # .venv/bin/standpipe without an import hook: a path line, a name with a version, a short script
    site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    echo "$tree" >"$site/standpipe.pth"
    version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
    rm -rf "$site"/standpipe-*.dist-info
    mkdir "$site/standpipe-$version.dist-info"
    printf 'Metadata-Version: 2.1\nName: standpipe\nVersion: %s\n' "$version" >"$site/standpipe-$version.dist-info/METADATA"
    cat >.venv/bin/standpipe.new <<EOF
#!$tree/.venv/bin/python
import sys

from agent.cli import main

sys.exit(main())
EOF
    chmod 755 .venv/bin/standpipe.new
    mv .venv/bin/standpipe.new .venv/bin/standpipe
}

case ${1:-} in
root)
    [ "$(id -u)" = 0 ] || fail "make $2 makes network namespaces and installs Debian packages, which needs root; run: sudo make $2"
    ;;
packages) packages "$base$laboratory" ;;
venv)
    set -- .venv requirements.txt requirements-dev.txt
    current "$@" && exit 0
    packages "$base"
    install "$@"
    command_from_tree
    shift
    made_from "$@" >.venv/.made-from
    ;;
lab)
    set -- .venv-lab requirements-lab.txt
    current "$@" && exit 0
    packages "$base"
    install "$@"
    shift
    made_from "$@" >.venv-lab/.made-from
    ;;
*) fail "usage: setup/machine.sh root TARGET | packages | venv | lab" ;;
esac
