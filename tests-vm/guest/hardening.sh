# The system booted from the mount: what may the daemon do that serves it?
. /vm/lib.sh

eventually "multi-user is reached" 300 multi_user
supervisor=$(property MainPID)
worker=$(worker)
# field NAME PROCESS: of the kernel's status of a process.
field() { sed -n "s/^$1:[[:space:]]*//p" "/proc/$2/status"; }
namespace() { readlink "/proc/$1/ns/mnt"; }

for process in "$supervisor" "$worker"; do
    check "process $process mounts for all" equals "$(namespace "$process")" "$(namespace 1)"
    check "process $process can gain no privileges" equals "$(field NoNewPrivs "$process")" 1
    check "process $process has a filter of system calls" equals "$(field Seccomp "$process")" 2
    check "process $process is not killed for memory before others" \
        test "$(cat "/proc/$process/oom_score_adj")" -le -900
done
check "the worker has no capabilities" equals "$(field CapEff "$worker")" 0000000000000000

# What is left is what a mount for all needs: CAP_SYS_ADMIN, root, no namespaces.
security() { systemd-analyze security --threshold=50 $unit; }
check "the unit's exposure is what systemd calls OK, at most 5.0" security
note "$(security | tail -n 1)"
finish
