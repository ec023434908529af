# generation-activate.sh ROOT [SYSTEM]: the links of the root at ROOT lead to SYSTEM, or else to the
# one that the kernel is told to start.
root=$1
system=$2
if [ -z "$system" ]; then
    # The last one counts, as for systemd.
    for word in $(cat /proc/cmdline); do
        case $word in
        init=*/init) system=${word#init=} system=${system%/init} ;;
        esac
    done
fi
ln -sfn "$system" /run/current-system
ln -sfn "$system/usr" "$root/usr"
