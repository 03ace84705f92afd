#!/usr/bin/env bash
# Brings the outside programs that `make conformance` runs and this machine lacks, into
# build/conformance: h2spec and Jaeger where there is Go, Autobahn's wstest where there is Python
# 2.7 (PYTHON27 names one). What cannot be brought is told by the run as "not run"; nothing here
# fails.
set -u
cd "$(dirname "$0")/../../.."
home=$PWD/build/conformance
mkdir -p "$home/bin"

H2SPEC=github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible
if ! command -v h2spec >/dev/null && [ ! -x "$home/bin/h2spec" ] && command -v go >/dev/null; then
    GOBIN=$home/bin go install "$H2SPEC" 2>&1 | tail -n 1
fi

# A collector of traces. It is built as a tool of an empty module: half an hour on a small machine,
# once; OTLP_ENDPOINT names one that runs, and then nothing is built.
JAEGER=github.com/jaegertracing/jaeger/cmd/jaeger@v1.76.0
if [ -z "${OTLP_ENDPOINT:-}" ] && ! command -v jaeger >/dev/null && [ ! -x "$home/bin/jaeger" ] &&
    command -v go >/dev/null && { [ -z "${ONLY:-}" ] || [ "$ONLY" = jaeger ]; }; then
    (mkdir -p "$home/jaeger/build" && cd "$home/jaeger/build" &&
        printf 'module example.org/collector\n\ngo 1.24\n' >go.mod &&
        go get -tool "$JAEGER" && go build -o "$home/bin/jaeger" "${JAEGER%@*}") 2>&1 |
        grep -v "^go: " | tail -n 1
fi

# The last one that runs as it comes; what is newer on PyPI is for the same Python and lacks parts.
WSTEST=autobahntestsuite==0.8.2
old=
for one in "${PYTHON27:-}" python2.7 python2; do
    [ -n "$one" ] && "$one" -c 'import sys; sys.exit(sys.version_info[:2] != (2, 7))' 2>/dev/null &&
        old=$one && break
done
if ! command -v wstest >/dev/null && [ ! -x "$home/bin/wstest" ] && [ -n "$old" ]; then
    if "$old" -m pip install --quiet --disable-pip-version-check --target "$home/wstest" "$WSTEST" \
        2>&1 | grep -v DEPRECATION; [ -f "$home/wstest/bin/wstest" ]; then
        # `--target` leaves out what makes a folder of namespaces a package.
        touch "$home/wstest/zope/__init__.py"
        printf '#!/bin/sh\nPYTHONPATH="%s" exec "%s" "%s" "$@"\n' \
            "$home/wstest" "$old" "$home/wstest/bin/wstest" >"$home/bin/wstest"
        chmod +x "$home/bin/wstest"
    fi
fi
exit 0
