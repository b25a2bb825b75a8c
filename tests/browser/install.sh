#!/bin/sh
# Debian's chromium, for the tests of this folder. Run as root.
set -eu
apt-get -o DPkg::Lock::Timeout=300 update -qq
DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends chromium
