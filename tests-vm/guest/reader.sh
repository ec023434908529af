# reader.sh TREE: reads TREE again and again, and counts.
#
# TREE/MANIFEST is for `sha256sum -c`, and TREE/bin/busybox is a program. All reads go to the
# daemon, for the kernel's caches are dropped before each round. After a failure, which is kept in
# /run/reader.failed, it goes on.
cd "$1" || exit 1
rounds=0
failed() { echo "round $rounds: $*" >>/run/reader.failed; }
: >/run/reader.failed
names=$(find . | wc -l)
while :; do
    echo 3 >/proc/sys/vm/drop_caches
    output=$(sha256sum --quiet -c MANIFEST 2>&1) || failed "contents: $output"
    output=$(find . | wc -l)
    [ "$output" = "$names" ] || failed "names: $output instead of $names"
    output=$(./bin/busybox echo hello 2>&1)
    [ "$output" = hello ] || failed "program: $output"
    [ "$(pwd -P)" = "$1" ] || failed "working directory: $(pwd -P)"
    rounds=$((rounds + 1))
    echo $rounds >/run/reader.rounds.new
    mv /run/reader.rounds.new /run/reader.rounds
done
