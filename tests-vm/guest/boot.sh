# The system booted from the mount: is all of it there, and from there?
. /vm/lib.sh

# Whether it is a file of the mount.
on_mount() {
    equals "$(stat -L -c %d "$1")" "$(stat -c %d /nix/store)"
}

# Every process but the daemon's runs a program of the mount, with libraries of the mount.
programs() {
    count=0
    for process in /proc/[0-9]*; do
        # A kernel thread has none, and one that has just ended too.
        exe=$(readlink "$process/exe") || continue
        case $exe in
        /nix/store/*)
            count=$((count + 1))
            elsewhere=$(sed -n 's,^[^/]*\(/.*\.so.*\),\1,p' "$process/maps" | grep -v '^/nix/store/')
            [ -z "$elsewhere" ] || { echo "$exe maps $elsewhere"; return 1; }
            ;;
        *store-mountd* | /memfd:*) ;;
        *)
            echo "${process#/proc/} is $exe"
            return 1
            ;;
        esac
    done
    [ $count -gt 5 ] || { echo "only $count programs"; return 1; }
}
bus() { busctl --system call org.freedesktop.DBus / org.freedesktop.DBus GetId; }
shell() { equals "$(readlink -f /proc/$$/exe)" "$(readlink -f /bin/sh)" && on_mount /proc/$$/exe; }

eventually "multi-user is reached" 300 multi_user
check "/nix/store is of type fuse" is_a_fuse /nix/store
check "PID 1 is in /nix/store" contains "$(readlink /proc/1/exe)" '^/nix/store/.*/lib/systemd/systemd$'
check "PID 1 is a file of the mount" on_mount /proc/1/exe
check "the shell is a file of the mount" shell
check "every program and library is in /nix/store" programs
check "dbus answers" bus
check "no unit failed" no_failed_unit
eventually "the system is running" 120 running
check "the store's unit is active" equals "$(property ActiveState)" active
if [ -f /vm/kills ]; then
    check "the worker was killed meanwhile" test "$(cat /run/kills)" -ge "$(cat /vm/kills)"
    value kills "$(cat /run/kills)"
fi
# A worker that was started since the switch to this root, too.
sees_processes() { ! journalctl --boot --unit=$unit | grep 'not seen in /proc'; }
check "its workers see who is killed" sees_processes
note "status: $(property StatusText)"
note "$(systemd-analyze time | head -n 1)"
finish
