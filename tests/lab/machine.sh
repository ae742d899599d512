#!/bin/sh
# machine.sh GROUP DIR...: becomes systemd as process 1 of a machine of its own, in this
# network namespace and that control group, which whoever ends it removes. It sees what
# this machine has, and changes nothing of it but the DIRs. In a mount namespace already
# (ip netns exec).
set -e
mount -t cgroup2 cgroup2 /mnt
echo $$ >"/mnt/$1/cgroup.procs"
umount /mnt
shift
exec unshare --pid --mount --fork --cgroup --ipc --uts --kill-child sh -e -c '
mount --make-rprivate /
mount -t tmpfs tmpfs /mnt
n=0
for dir in "$@"; do n=$((n + 1)); mkdir /mnt/$n; mount --rbind "$dir" /mnt/$n; done
mount -t tmpfs tmpfs /run
for dir in etc var root home; do
    mkdir -p /run/over/$dir /run/over/$dir.work
    mount -t overlay overlay -o "lowerdir=/$dir,upperdir=/run/over/$dir,workdir=/run/over/$dir.work" /$dir
done
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /var/tmp
n=0
for dir in "$@"; do n=$((n + 1)); mkdir -p "$dir"; mount --rbind /mnt/$n "$dir"; done
umount -R /sys/fs/cgroup 2>/dev/null || :
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t proc proc /proc
mount --bind /proc/sys /proc/sys
mount -o remount,ro,bind /proc/sys
export container=lab
exec /lib/systemd/systemd --system --unit=basic.target --log-target=console --show-status=no
' machine "$@"
