#!/bin/busybox sh
# The first program of the machine in tests/fs/reset_guest.py: mounts the store on the five disks,
# sends all that is in it, runs the load, and ends cleanly if it is let.
B=/bin/busybox
disks="/dev/vda /dev/vdb /dev/vdc /dev/vdd /dev/vde"
$B mount -t proc none /proc
$B mount -t sysfs none /sys
$B mount -t devtmpfs none /dev
for number in 0 1 2 3 4 5 6 7; do
    $B insmod /modules/$number.ko || $B poweroff -f
done
until [ -e /dev/vport0p1 ] && [ -e /dev/vport0p2 ] && [ -e /dev/vde ]; do $B sleep 0.05; done

# The kernel writes what is dirty to the disks' caches soon, not only when a flush is asked for.
echo 1 >/proc/sys/vm/dirty_writeback_centisecs
echo 1 >/proc/sys/vm/dirty_expire_centisecs
echo 65536 >/proc/sys/vm/dirty_background_bytes

tell() { echo "$*" >/dev/vport0p1; }

tell caches $($B cat /sys/block/vd[a-e]/queue/write_cache)
if ! pegasus_fs mount $disks /m 2>/tmp/said; then
    tell failed mount: $($B cat /tmp/said)
    $B sleep 1000
fi
tell status $(pegasus_fs status $disks --json)
$B tar -c -f /dev/vport0p2 -C /m . 2>/tmp/said || tell failed tar: $($B cat /tmp/said)
tell read
fs_script_load /dev/vport0p1 /m
tell unmounting
$B umount /m || tell failed umount
# The program writes its last checkpoint after the unmount.
while $B pidof pegasus_fs >/dev/null; do $B sleep 0.05; done
tell ended
$B poweroff -f
