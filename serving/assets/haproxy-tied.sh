#!/bin/sh
# What Serve starts as HAProxy: see haproxy_tied.py.
exec "$KAIROS_PYTHON" -I -S "$(dirname "$0")/haproxy_tied.py" "$@"
