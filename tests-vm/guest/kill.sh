# kill.sh [COUNT]: kills the worker once a second, so often or until it is killed itself. It counts
# in /run/kills and tells the console, where the kills of a shutdown are seen too.
. /vm/worker.sh
left=${1:--1}
kills=0
[ ! -f /run/kills ] || read -r kills </run/kills
while [ "$left" != 0 ]; do
    if process=$(worker) && kill -9 "$process"; then
        kills=$((kills + 1))
        left=$((left - 1))
        echo $kills >/run/kills
        echo "kill.sh: worker $process, kill $kills" >/dev/console
    fi
    sleep 1
done
