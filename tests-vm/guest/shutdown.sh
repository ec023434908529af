# The system booted from the mount, and ends while the mount is in use.
. /vm/lib.sh
kept=/var/lib/kept

eventually "multi-user is reached" 300 multi_user
check "no unit failed" no_failed_unit
# A working directory and an open file, until the last process is killed.
cd /nix/store || exit 1
sleep 1000 </nix/store/*-system/usr/bin/sh &

if [ ! -e $kept ]; then
    echo kept >$kept
    note "the first boot ends with a reboot"
    finish reboot.target
else
    check "what was written before the reboot is there" equals "$(cat $kept)" kept
    finish
fi
