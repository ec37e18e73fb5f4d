//! The files of a machine that is larger than any that tests run on: many CPUs, disks and interfaces.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// How many it has of each.
#[derive(Debug, Clone, Copy)]
pub struct BigMachine {
    /// CPUs, two threads to a core, half of them in each of two packages.
    pub cpus: usize,
    /// Disks.
    pub disks: usize,
    /// Network interfaces.
    pub interfaces: usize,
}

impl BigMachine {
    /// Writes `proc` and `sys` below a folder, in the kernel's formats.
    pub fn write(&self, root: &Path) -> Result<()> {
        let (proc, sys) = (root.join("proc"), root.join("sys"));
        for (name, text) in [
            ("stat", self.stat()),
            ("cpuinfo", self.cpuinfo()),
            ("schedstat", self.schedstat()),
            ("diskstats", self.diskstats()),
            ("net/dev", self.net_dev()),
            ("net/softnet_stat", self.softnet()),
            ("loadavg", "12.10 10.51 9.90 7/4321 98765\n".to_owned()),
            ("sys/fs/file-nr", "12000\t0\t9223372036854775807\n".to_owned()),
        ] {
            put(&proc.join(name), &text)?;
        }
        for file in ["meminfo", "vmstat", "mounts", "net/netstat", "net/snmp", "net/snmp6", "net/sockstat"] {
            let own = fs::read_to_string(Path::new("/proc").join(file)).unwrap_or_default();
            put(&proc.join(file), &own)?;
        }
        put(&proc.join("1/mountinfo"), "22 1 254:0 / / rw - ext4 /dev/vda rw\n")?;
        self.cpu_folders(&sys)?;
        self.interface_folders(&sys)
    }

    fn stat(&self) -> String {
        let mut text = "cpu  1 2 3 4 5 6 7 8 9 10\n".to_owned();
        for cpu in 0..self.cpus {
            let _ = writeln!(
                text,
                "cpu{cpu} {} 73759 19232756 121843301{cpu:03} 54322 566 6850325 0 12 3",
                1_279_636 + cpu
            );
        }
        let interrupts = " 0".repeat(2000);
        let _ = writeln!(text, "intr 987654321{interrupts}\nctxt 123456789012\nbtime 1767225600");
        text + "processes 4567890\nprocs_running 7\nprocs_blocked 1\n\
                softirq 99999999 1 22222222 3 444444 55555 0 6666 7777777 8 99999\n"
    }

    fn cpuinfo(&self) -> String {
        let flags = "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 ht \
                     syscall nx pdpe1gb rdtscp lm constant_tsc rep_good nopl xtopology nonstop_tsc cpuid avx avx2 avx512f";
        let mut text = String::new();
        for cpu in 0..self.cpus {
            let (package, core) = self.place(cpu);
            let _ = write!(
                text,
                "processor\t: {cpu}\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 143\nmodel name\t: Example CPU\n\
                 stepping\t: 8\nmicrocode\t: 0x2b0004d0\ncpu MHz\t\t: 2400.{cpu:03}\ncache size\t: 107520 KB\n\
                 physical id\t: {package}\nsiblings\t: {}\ncore id\t\t: {core}\ncpu cores\t: {}\napicid\t\t: {cpu}\n\
                 flags\t\t: {flags}\nbugs\t\t: spectre_v1 spectre_v2\nbogomips\t: 4800.00\n\n",
                self.cpus / 2,
                self.cpus / 4,
            );
        }
        text
    }

    fn schedstat(&self) -> String {
        let mut text = "version 17\ntimestamp 4300000000\n".to_owned();
        for cpu in 0..self.cpus {
            let _ = writeln!(text, "cpu{cpu} 0 0 0 0 0 0 209304545{cpu:04} 1810045{cpu:04} 2377{cpu:04}");
        }
        text
    }

    fn softnet(&self) -> String {
        (0..self.cpus)
            .map(|cpu| {
                format!(
                    "0001b7e3 00000000 00000001 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 \
                     00000000 {cpu:08x} 00000000 00000000\n"
                )
            })
            .collect()
    }

    fn diskstats(&self) -> String {
        (0..self.disks)
            .map(|disk| {
                format!(
                    " 259 {disk:7} nvme{disk}n1 32152{disk} 50747 8412345 7654 12345{disk} 6789 987654 3210 0 4567 8901 \
                     12 0 3456 78 90 12\n"
                )
            })
            .collect()
    }

    fn net_dev(&self) -> String {
        let mut text = "Inter-|   Receive                                                |  Transmit\n \
                        face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo \
                        colls carrier compressed\n"
            .to_owned();
        for i in 0..self.interfaces {
            let _ = writeln!(text, "veth{i}: 1234567{i} 89012 0 1 0 0 0 34 7654321{i} 98765 0 0 0 0 0 0");
        }
        text
    }

    /// Package and core of a CPU.
    fn place(&self, cpu: usize) -> (usize, usize) {
        (cpu / (self.cpus / 2).max(1), cpu % (self.cpus / 2).max(1) / 2)
    }

    fn cpu_folders(&self, sys: &Path) -> Result<()> {
        let cpus = sys.join("devices/system/cpu");
        for cpu in 0..self.cpus {
            let folder = cpus.join(format!("cpu{cpu}"));
            let (package, core) = self.place(cpu);
            for (file, value) in [
                ("topology/physical_package_id", package.to_string()),
                ("topology/core_id", core.to_string()),
                ("thermal_throttle/core_throttle_count", "3".to_owned()),
                ("thermal_throttle/package_throttle_count", "5".to_owned()),
                ("cpufreq/scaling_cur_freq", "2400000".to_owned()),
                ("cpufreq/scaling_min_freq", "800000".to_owned()),
                ("cpufreq/scaling_max_freq", "3500000".to_owned()),
                ("cpufreq/cpuinfo_min_freq", "800000".to_owned()),
                ("cpufreq/cpuinfo_max_freq", "3500000".to_owned()),
                ("cpufreq/cpuinfo_cur_freq", "2400000".to_owned()),
                ("cpufreq/cpuinfo_transition_latency", "20000".to_owned()),
                ("cpufreq/scaling_governor", "powersave".to_owned()),
                ("cpufreq/scaling_available_governors", "performance powersave".to_owned()),
                ("cpufreq/scaling_driver", "intel_pstate".to_owned()),
                ("cpufreq/scaling_setspeed", "<unsupported>".to_owned()),
                ("cpufreq/related_cpus", cpu.to_string()),
            ] {
                put(&folder.join(file), &format!("{value}\n"))?;
            }
        }
        let last = self.cpus.saturating_sub(1);
        ["online", "present", "possible"]
            .iter()
            .try_for_each(|file| put(&cpus.join(file), &format!("0-{last}\n")))?;
        ["isolated", "offline"].iter().try_for_each(|file| put(&cpus.join(file), "\n"))
    }

    fn interface_folders(&self, sys: &Path) -> Result<()> {
        for i in 0..self.interfaces {
            let folder = sys.join(format!("class/net/veth{i}"));
            let index = (i + 2).to_string();
            for (file, value) in [
                ("addr_assign_type", "3"),
                ("addr_len", "6"),
                ("address", "0e:5b:41:00:00:01"),
                ("broadcast", "ff:ff:ff:ff:ff:ff"),
                ("carrier", "1"),
                ("carrier_changes", "2"),
                ("carrier_down_count", "1"),
                ("carrier_up_count", "1"),
                ("dev_id", "0x0"),
                ("dormant", "0"),
                ("duplex", "full"),
                ("flags", "0x1003"),
                ("ifalias", ""),
                ("ifindex", &index),
                ("iflink", &index),
                ("link_mode", "0"),
                ("mtu", "1500"),
                ("name_assign_type", "3"),
                ("netdev_group", "0"),
                ("operstate", "up"),
                ("speed", "10000"),
                ("tx_queue_len", "1000"),
                ("type", "1"),
            ] {
                put(&folder.join(file), &format!("{value}\n"))?;
            }
        }
        Ok(())
    }
}

fn put(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(path, text))
        .with_context(|| format!("cannot write {}", path.display()))
}
