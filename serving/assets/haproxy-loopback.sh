#!/bin/sh
# Runs HAProxy with its statistics on loopback instead of on every address, and records its pid.
# Usage: as haproxy itself. Needs KAIROS_HAPROXY_BINARY and KAIROS_RUN_DIR.
config=""
previous=""
for argument in "$@"; do
  [ "$previous" = "-f" ] && config="$argument"
  previous="$argument"
done
if [ -n "$config" ] && [ -f "$config" ]; then
  sed -i -e 's/^\( *bind \)\*:/\1127.0.0.1:/' -e 's/^\( *bind \):/\1127.0.0.1:/' "$config"
fi
echo $$ >> "$KAIROS_RUN_DIR/haproxy.pids"
exec "$KAIROS_HAPROXY_BINARY" "$@"
