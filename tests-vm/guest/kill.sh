# kill.sh SECONDS [COUNT]: kills the worker again and again, with that much time between, and counts
# in /run/kills. Without COUNT it goes on until it is killed itself.
interval=$1
left=${2:--1}
kills=0
[ ! -f /run/kills ] || read -r kills </run/kills
while [ "$left" != 0 ]; do
    for process in $(cat /sys/fs/cgroup/system.slice/tvix-store-mount.service/cgroup.procs); do
        read -r stat 2>/dev/null <"/proc/$process/stat" || continue
        # After the name: state, then parent. The supervisor's parent is 1.
        set -- ${stat##*) }
        if [ "$2" != 1 ] && kill -9 "$process"; then
            kills=$((kills + 1))
            echo $kills >/run/kills
        fi
    done
    left=$((left - 1))
    sleep "$interval"
done
