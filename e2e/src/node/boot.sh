# The first process of a node: gives it a machine's view of its own, then runs its programs until one of them ends.
# It starts in namespaces of its own, with NODE_FOLDER, NODE_NAME and PATH set.
set -eu

# The number by which the outside knows this process: /proc is still the outside's.
read -r pid _ < /proc/self/stat
cd "$NODE_FOLDER"
echo "$pid" > pid.new && mv pid.new pid

# A sysfs that shows this node's network devices, and below it cgroup trees whose root is this node's own cgroup.
umount -R -l /sys
mount -t sysfs sysfs /sys
if grep -q ' cgroup ' cgroup-mounts; then mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup; fi
while read -r folder type options; do
    mkdir -p "/sys/fs/cgroup/$folder"
    mount -t "$type" -o "$options" cgroup "/sys/fs/cgroup/$folder"
    # Where two controllers share a hierarchy, each has its own name too.
    case "$folder" in *,*) for one in ${folder//,/ }; do ln -s "$folder" "/sys/fs/cgroup/$one"; done ;; esac
done < cgroup-mounts
umount -R -l /proc
mount -t proc proc /proc

# What the machine has mounted there, the innermost first, is none of the node's.
for mount in $(awk '$5 ~ "^/run(/|$)" { print $5 }' /proc/self/mountinfo | tac); do umount -l "$mount"; done
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/lock /run/netns
mount --bind lib /var/lib
mount --bind log /var/log
echo "$NODE_NAME" > /proc/sys/kernel/hostname

# The kubelet sets these for the whole machine. A file with the wanted value in its place, for this node only, leaves
# the machine alone and shows what a real node shows.
while read -r setting wanted; do
    if [ "$(cat "/proc/sys/$setting" 2>/dev/null)" != "$wanted" ] && [ -e "/proc/sys/$setting" ]; then
        mkdir -p "sysctl/$(dirname "$setting")"
        echo "$wanted" > "sysctl/$setting"
        mount --bind "sysctl/$setting" "/proc/sys/$setting"
    fi
done <<'END'
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
END

# Shared, so that later mounts reach pods that ask for HostToContainer. Not before the bind mounts above: they would
# be peers of what they show, and every mount below one would appear below the other too.
mount --make-rshared /

await() { until "$@" > /dev/null 2>&1; do sleep 0.05; done; }

containerd --config containerd.toml > containerd.log 2>&1 &
await ctr version
for image in images/*.tar; do ctr --namespace k8s.io images import "$image" > /dev/null; done

# Their first retries are slow, so they start when the API server is there.
await test -e server-is-ready
kube-proxy --config kube-proxy.yaml > kube-proxy.log 2>&1 &
run_kubelet() {
    kubelet --config kubelet.yaml --kubeconfig kubelet.conf --hostname-override "$NODE_NAME" --node-ip "$NODE_ADDRESS" \
        >> kubelet.log 2>&1
}
# It is started again only where that was asked for: one that ends by itself is a failure to be seen.
{
    run_kubelet || true
    while rm restart-kubelet 2> /dev/null; do run_kubelet || true; done
} &
wait -n
echo "a program of the node has ended" >&2
exit 1
