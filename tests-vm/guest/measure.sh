# How long the boot took, and what it read. The same for any system.
. /vm/lib.sh
eventually "multi-user is reached" 300 multi_user
# On the clock that the kernel starts.
value multi-user "$(property ActiveEnterTimestampMonotonic multi-user.target)"
# Requests, those that were merged, and sectors of 512 bytes.
read -r requests merged sectors rest </sys/block/vda/stat
value requests "$requests"
value read-bytes $((sectors * 512))
finish
