# Reporting to the host, for the scripts that run in the guests. See docs/vm-tests.md.
#
# A script is a sequence of checks; one that fails does not end it. It ends with `finish`.

export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_PAGER=cat SYSTEMD_COLORS=0
unit=tvix-store-mount.service
. /vm/worker.sh

for port in /sys/class/virtio-ports/*; do
    # A port for a console has no name.
    name=$(cat "$port/name" 2>/dev/null)
    if [ "$name" = results ]; then
        exec 9>"/dev/${port##*/}"
    fi
done

say() { echo "$*" >&9; }
note() { say "note $*"; }
value() { say "value $*"; } # NAME NUMBER
ok() { say "ok $*"; }
fail() { # NAME REASON
    say "FAIL $1: $(echo "$2" | tail -n 12 | tr '\n' ';' | tr -d '\r')"
}

# check NAME COMMAND…: it succeeds. What it prints is the reason if it does not.
check() {
    name=$1
    shift
    if reason=$("$@" 2>&1); then
        ok "$name"
    else
        fail "$name" "$* says: $reason"
        return 1
    fi
}

# eventually NAME SECONDS COMMAND…: it succeeds within that time.
eventually() {
    name=$1
    deadline=$(($(uptime_s) + $2))
    shift 2
    until reason=$("$@" 2>&1); do
        if [ "$(uptime_s)" -gt "$deadline" ]; then
            fail "$name" "$* says: $reason"
            return 1
        fi
        sleep 0.2
    done
    ok "$name"
}

uptime_s() {
    read -r seconds rest </proc/uptime
    echo "${seconds%.*}"
}

multi_user() { systemctl is-active multi-user.target; }
no_failed_unit() {
    failed=$(systemctl --failed --plain --no-legend)
    echo "$failed"
    [ -z "$failed" ]
}
# All of it was started and nothing of it failed.
running() { equals "$(systemctl is-system-running)" running; }
is_a_fuse() { contains "$(findmnt -n -o FSTYPE --mountpoint "$1")" '^fuse'; }

# equals IS SHOULD
equals() {
    [ "$1" = "$2" ] || {
        echo "'$1' is not '$2'"
        return 1
    }
}

contains() { # TEXT PATTERN
    echo "$1" | grep -q -e "$2" || {
        echo "no '$2' in: $1"
        return 1
    }
}

# property NAME [UNIT]
property() { systemctl show --value --property="$1" "${2:-$unit}"; }

# The mount's number, that only a mount of its own has.
mount_id() { # MOUNTPOINT
    while read -r id parent device root mountpoint rest; do
        if [ "$mountpoint" = "$1" ]; then
            echo "$id $device"
        fi
    done </proc/self/mountinfo
}

# finish [TARGET]: ends the script, and the machine.
finish() {
    say end
    # As `systemctl poweroff`, which would start logind first where there is none.
    systemctl --no-block --job-mode=replace-irreversibly start "${1:-poweroff.target}"
}
