# The unit in an ordinary system, from start to stop.
. /vm/lib.sh
tree=$(cat /vm/tree)
mountpoint=/nix/store
# Programs under emulation are slow; nothing here is about speed.
patience=120

is_mounted() { [ -n "$(mount_id $mountpoint)" ]; }
is_unmounted() { ! is_mounted; }
is_active() { equals "$(property ActiveState)" active; }
is_inactive() { equals "$(property ActiveState)" inactive; }
rounds() { cat /run/reader.rounds 2>/dev/null || echo 0; }
goes_on() { # the reader has done two more rounds than COUNT
    [ "$(rounds)" -ge "$(($1 + 2))" ]
}
no_failed_read() { ! [ -s /run/reader.failed ] || { cat /run/reader.failed; return 1; }; }
is_another() { # PID COMMAND…: the command prints another process
    before=$1
    shift
    new=$("$@") || return
    [ -n "$new" ] && [ "$new" != 0 ] && [ "$new" != "$before" ]
}

# after NAME: the reader goes on over what has just been done, and the mount is the same one.
after() {
    eventually "$1: the reader goes on" $patience goes_on "$(rounds)"
    check "$1: no read failed" no_failed_read
    check "$1: the mount is the same" equals "$(mount_id $mountpoint)" "$mount"
    check "$1: the program that ran goes on" kill -0 "$sleeper"
    eventually "$1: active" $patience is_active
    : >/run/reader.failed
}

clean() {
    output=$(systemd-analyze verify --man=no /usr/lib/systemd/system/tvix-store-mount*.service 2>&1)
    status=$?
    echo "$output"
    [ $status = 0 ] && [ -z "$output" ]
}
check "systemd-analyze verify has nothing to say" clean
# The table goes to the journal, for docs/operations.md.
systemd-analyze security --no-pager $unit 2>&1 | systemd-cat -t security
note "$(systemd-analyze security --no-pager $unit 2>&1 | tail -n 1)"

check "started at boot" systemctl is-active $unit
check "started means mounted" is_mounted
check "started means readable" test -f "$tree/MANIFEST"
check "started before local-fs.target" test "$(property ActiveEnterTimestampMonotonic)" -lt \
    "$(property ActiveEnterTimestampMonotonic local-fs.target)"
check "is of type fuse" is_a_fuse $mountpoint
check "type is a notifying one" contains "$(property Type)" '^notify'
check "the status tells something" contains "$(property StatusText)" '[a-z]'
note "status: $(property StatusText)"
mount=$(mount_id $mountpoint)

sh /vm/reader.sh "$tree" &
reader=$!
"$tree/bin/busybox" sleep 100000 &
sleeper=$!
eventually "a reader reads" $patience goes_on 0
check "no read failed" no_failed_read

# Counts are the host's: --full has more.
round=0
while [ $round -lt "$(cat /vm/rounds)" ]; do
    round=$((round + 1))

    old=$(property MainPID)
    check "restart $round" systemctl restart $unit
    check "restart $round: another supervisor" is_another "$old" property MainPID
    after "restart $round"

    old=$(worker)
    check "reload $round" systemctl reload $unit
    check "reload $round: another worker" is_another "$old" worker
    after "reload $round"

    old=$(worker)
    kill -9 "$old"
    eventually "worker killed $round: another one" $patience is_another "$old" worker
    after "worker killed $round"

    old=$(property MainPID)
    kill -9 "$old"
    eventually "supervisor killed $round: another one" $patience is_another "$old" property MainPID
    after "supervisor killed $round"
done

# A supervisor that does nothing any more is noticed by systemd.
mkdir -p /run/systemd/system/$unit.d
printf '[Service]\nWatchdogSec=15s\n' >/run/systemd/system/$unit.d/watchdog.conf
systemctl daemon-reload
check "restart with a watchdog" systemctl restart $unit
old=$(property MainPID)
kill -STOP "$old"
eventually "supervisor stopped: another one" $patience is_another "$old" property MainPID
after "supervisor stopped"
says_why() { contains "$(journalctl -b -u $unit)" '[Ww]atchdog timeout'; }
eventually "supervisor stopped: systemd says why" $patience says_why

# A file with a damaged byte.
damaged=$(cat /vm/damaged)
reading() { cat "$damaged" 2>&1 >/dev/null; }
check "a damaged file cannot be read" contains "$(reading)" 'Input/output error'
fields() { journalctl -b "STORE_PATH=${damaged##*/}" + "STORE_PATH=$damaged" -o json --no-pager; }
in_journal() { contains "$(fields)" '"DIGEST"'; }
eventually "the journal has it under its store path" $patience in_journal

# Stop, while it is used and then while it is not.
says_who() { contains "$(journalctl -b -u $unit)" "pid $sleeper:"; }
kill $reader
wait $reader 2>/dev/null
check "before the stop: no read failed" no_failed_read
check "stop in use" systemctl --no-block stop $unit
eventually "stop in use: it says by whom" $patience says_who
eventually "stop in use: out of the tree" $patience is_unmounted
check "stop in use: the program that ran goes on" kill -0 "$sleeper"
kill $sleeper
wait $sleeper 2>/dev/null
eventually "stop in use: inactive after the last user" $patience is_inactive
check "start again" systemctl start $unit
check "start again: mounted" is_mounted
check "stop" systemctl stop $unit
check "stop: inactive" is_inactive
check "stop: unmounted" is_unmounted
finish
