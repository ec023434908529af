# worker: prints the process that serves, if there is one. Of the unit's processes, which are a
# supervisor, a worker and one that asks the mount, it is the one with that command line.
worker() {
    for process in $(cat /sys/fs/cgroup/system.slice/tvix-store-mount.service/cgroup.procs); do
        case $(tr '\0' ' ' 2>/dev/null <"/proc/$process/cmdline") in
        *" worker ")
            echo "$process"
            return
            ;;
        esac
    done
    return 1
}
