//! What holds of the cost of the machine's own figures, whatever the machine: how many allocations a scrape makes.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent::plan::{Overlay, Plan};
use agent::scrape::{Part, Scraper};
use agent::source::Paths;
use agent::telemetry::Telemetry;
use benches::measure;
use protocol::Facts;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Attributes that the kernel gives every interface (Documentation/ABI/testing/sysfs-class-net).
const NUMBERS: [&str; 17] = [
    "addr_assign_type",
    "carrier",
    "carrier_changes",
    "carrier_down_count",
    "carrier_up_count",
    "dev_id",
    "dormant",
    "flags",
    "ifindex",
    "iflink",
    "link_mode",
    "mtu",
    "name_assign_type",
    "netdev_group",
    "speed",
    "tx_queue_len",
    "type",
];

/// Collectors that must be switched on.
const OPTIONAL: [&str; 4] = ["mountstats", "nvmesubsystem", "pcidevice", "sysctl"];

/// Of each PCI device (Documentation/ABI/testing/sysfs-bus-pci); none has virtual functions.
const PCI: [(&str, &str); 8] = [
    ("class", "0x010802"),
    ("vendor", "0x8086"),
    ("device", "0x0a54"),
    ("subsystem_vendor", "0x8086"),
    ("subsystem_device", "0x4702"),
    ("revision", "0x00"),
    ("current_link_speed", "8.0 GT/s PCIe"),
    ("power_state", "D0"),
];

/// The files of a machine with so many CPUs, disks, interfaces, neighbours, virtual servers, NFS mounts, PCI devices,
/// NVMe subsystems and settings.
fn machine(count: usize) -> PathBuf {
    let root = std::env::temp_dir().join(format!("machine-{}-{count}", std::process::id()));
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let lines = |head: &str, line: &dyn Fn(usize) -> String| {
        (0..count).fold(head.to_owned(), |mut text, i| {
            writeln!(text, "{}", line(i)).unwrap();
            text
        })
    };
    let numbers = |n: usize| " 12345".repeat(n);
    let stat = lines("", &|i| format!("cpu{i}{}", numbers(10)));
    write("proc/stat", &(stat + "intr 5\nctxt 1\nbtime 1\nprocesses 1\nprocs_running 1\nprocs_blocked 0\n"));
    write("proc/schedstat", &lines("version 17\n", &|i| format!("cpu{i}{}", numbers(9))));
    write("proc/net/softnet_stat", &lines("", &|i| format!("{} {i:08x} 0 0", "00000001 ".repeat(12))));
    write("proc/diskstats", &lines("", &|i| format!("   8 {i} sd_{i}{}", numbers(17))));
    write("proc/net/dev", &lines("head\nhead\n", &|i| format!("  eth{i}:{}", numbers(16))));
    write("proc/net/arp", &lines("head\n", &|i| format!("10.0.0.1 0x1 0x2 00:16:3e:00:00:01 * eth{i}")));
    write(
        "proc/net/udp",
        &lines("head\n", &|i| format!("{i}: 0:0 0:0 07 00000001:00000002 0:0 0 0 0 1 2 0 0")),
    );
    write("proc/net/ip_vs_stats", "head\nhead\n 1 2 3 4 5\n\n");
    let server = |i: usize| {
        format!("TCP  0A60{i:04X}:01BB rr\n  -> 0AF4{i:04X}:192B      Masq    1      42         7")
    };
    write("proc/net/ip_vs", &lines("IP\nProt\n", &server));
    let mount = |i: usize| {
        let (operation, transport) = (numbers(8), numbers(10));
        format!(
            "device disk{i} mounted on /disk{i} with fstype ext4\n\
            device s:/{i} mounted on /{i} with fstype nfs4 statvers=1.1\n age: 1\n bytes:{}\n events:{}\n \
            xprt: udp{transport}\n per-op statistics\n READ:{operation}\n WRITE:{operation}\n",
            numbers(8),
            numbers(27),
        )
    };
    write("proc/1/mountstats", &lines("", &mount));
    write("proc/1/mountinfo", &lines("", &|i| format!("1 1 0:1 / /{i} rw - nfs4 s:/{i} rw,addr=10.0.0.1")));
    write("pci.ids", "8086  Intel Corporation\n");
    for i in 0..count {
        let device = format!("0000:00:{i:02x}.0");
        for (file, text) in PCI {
            write(&format!("sys/devices/pci0000:00/{device}/{file}"), text);
        }
        let link = root.join("sys/bus/pci/devices").join(&device);
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(format!("../../../devices/pci0000:00/{device}"), link).unwrap();
        for file in ["subsysnqn", "model", "serial", "iopolicy"] {
            write(&format!("sys/class/nvme-subsystem/nvme-subsys{i}/{file}"), "x\n");
        }
        for of in 0..2 {
            let path = format!("sys/class/nvme-subsystem/nvme-subsys{i}/nvme{of}");
            write(&format!("{path}/state"), "live\n");
            write(&format!("{path}/transport"), "tcp\n");
            write(&format!("{path}n1/size"), "1\n");
        }
        write(&format!("proc/sys/vm/n{i}"), "1 2 3\n");
    }
    for i in 0..count {
        let interface = |file: &str| format!("sys/class/net/eth{i}/{file}");
        write(&interface("statistics/rx_nohandler"), "0\n");
        for file in ["address", "broadcast", "duplex", "ifalias", "operstate"] {
            write(&interface(file), "up\n");
        }
        for file in NUMBERS {
            write(&interface(file), "1\n");
        }
        write(&format!("sys/block/sd_{i}/queue/rotational"), "1\n");
        write(&format!("udev/b8:{i}"), "E:ID_MODEL=disk\nE:ID_FS_TYPE=xfs\n");
        let cpu = format!("sys/devices/system/cpu/cpu{i}");
        for (file, text) in [("core_id", i.to_string()), ("physical_package_id", "0".to_owned())] {
            write(&format!("{cpu}/topology/{file}"), &text);
        }
        write(&format!("{cpu}/thermal_throttle/core_throttle_count"), "1\n");
    }
    let folder = std::fs::File::open(root.join("udev")).unwrap();
    folder.set_modified(std::time::UNIX_EPOCH).unwrap();
    root
}

/// The fewest allocations of one scrape in steady state, and how many series it gives. The fewest, since the queues to
/// the threads of collectors that can block allocate a block for every few dozen messages, whatever these say.
fn allocations(root: &Path) -> (u64, usize) {
    let paths = Paths {
        procfs: root.join("proc"),
        sysfs: root.join("sys"),
        rootfs: root.to_owned(),
        udev: root.join("udev"),
        ..Paths::default()
    };
    let settings =
        |count: usize, keys: &str| (0..count).map(|i| format!("vm.n{i}{keys}\n")).collect::<String>();
    let count = std::fs::read_dir(root.join("proc/sys/vm")).unwrap().count();
    let options = [
        ("pcidevice", "names", "true".to_owned()),
        ("pcidevice", "idsfile", root.join("pci.ids").display().to_string()),
        ("sysctl", "include", settings(count, "") + &settings(count, ":a,b,c")),
        ("sysctl", "includeInfo", settings(count, "")),
    ];
    let mut flags = Overlay::default();
    for (collector, option, value) in options {
        flags.options.entry(collector.to_owned()).or_default().insert(option.to_owned(), value);
    }
    flags.enabled = OPTIONAL.map(|collector| (collector.to_owned(), true)).into();
    let plan = Plan::new(Vec::new(), Facts::default(), &flags);
    let mut scraper = Scraper::new(paths, String::new(), 100_000, plan, Arc::new(Telemetry::new().unwrap()));
    let allocated = || dhat::HeapStats::get().total_blocks;
    let (blocks, lines, text) = measure::allocations(&mut scraper, Part::Node, 10, allocated);
    for collector in OPTIONAL {
        assert!(text.contains(&format!("node_{collector}_")), "{collector} gives nothing");
        let success = format!("node_scrape_collector_success{{collector=\"{collector}\"}} 1");
        assert!(text.contains(&success), "{collector} fails");
    }
    (blocks, lines)
}

#[test]
fn a_scrape_of_the_machine_allocates_nothing_per_series_in_steady_state() {
    let machines = [4, 40].map(machine);
    let _profiler = dhat::Profiler::builder().testing().build();
    let [(few, small), (many, large)] = [&machines[0], &machines[1]].map(|root| allocations(root));
    machines.iter().for_each(|root| std::fs::remove_dir_all(root).unwrap());
    assert!(large > small + 6000, "{small} lines, {large} lines");
    assert_eq!(few, many, "ten times the devices take more allocations");
}
