//! Lines of mountinfo that are not as one expects.

use super::*;
use crate::metric::Samples;

fn selection(rootfs: &str) -> Selection {
    let options = crate::collector::Options::default();
    Selection {
        points: options.pattern(&COLLECTOR, "mountPointsInclude", "mountPointsExclude"),
        types: options.pattern(&COLLECTOR, "fsTypesInclude", "fsTypesExclude"),
        rootfs: PathBuf::from(rootfs),
    }
}

fn check(line: &[u8], device: &str, point: &str, place: &str, is_readonly: bool) {
    let (mount, found) = parse(line, Path::new("/host")).unwrap();
    assert_eq!(
        (mount.device.as_str(), mount.point.as_str(), mount.is_readonly),
        (device, point, is_readonly)
    );
    assert_eq!(found, Path::new(place));
}

#[test]
fn escapes_bytes_and_optional_fields_are_understood() {
    check(b"36 35 98:0 /a /b rw,noatime - ext3 /dev/root rw", "/dev/root", "/b", "/host/b", false);
    check(b"36 35 98:0 /a /b rw shared:7 master:1 - ext3 /dev/root ro", "/dev/root", "/b", "/host/b", true);
    check(b"36 35 98:0 /a /b ro,noatime shared:7 - ext3 /dev/root rw", "/dev/root", "/b", "/host/b", true);
    check(b"36 35 98:0 /a /b rw - ext3 d rw,emergency_ro", "d", "/b", "/host/b", true);
    check(
        b"36 35 98:0 / /a\\040b\\011c\\134\\012 rw - ext3 d rw",
        "d",
        "/a b\tc\\\n",
        "/host/a b\tc\\\n",
        false,
    );
    check(b"36 35 98:0 / /a\\9\\04 rw - ext3 d rw", "d", "/a\\9\\04", "/host/a\\9\\04", false);
    check(b"36 35 98:0 / /a)\" rw - ext3 a\\040b rw", "a\\040b", "/a)\"", "/host/a)\"", false);
    check(b"36 35 0:1 / /m rw - tmpfs  rw", "", "/m", "/host/m", false);
    let (mount, place) = parse(b"36 35 98:0 / /\xff rw - ext3 d rw", Path::new("/host")).unwrap();
    assert_eq!(mount.point, "/\u{fffd}");
    assert_eq!(place.as_os_str().as_bytes(), b"/host/\xff", "the kernel is asked for the bytes as they are");
}

#[test]
fn our_own_root_is_no_part_of_a_mount_point() {
    check(b"36 35 98:0 / /host rw - ext3 d rw", "d", "/", "/host/", false);
    check(b"36 35 98:0 / /host/var rw - ext3 d rw", "d", "/var", "/host/var", false);
    check(b"36 35 98:0 / /hosting rw - ext3 d rw", "d", "/hosting", "/host/hosting", false);
}

#[test]
fn what_is_no_mount_is_none() {
    for line in [
        &b""[..],
        b"36 35 98:0 / /b rw - ext3 /dev/root",
        b"36 35 98:0 / /b rw shared:1 ext3 /dev/root rw",
        b"36 35 98 / /b rw - ext3 /dev/root rw",
        b"36 35 98:x / /b rw - ext3 /dev/root rw",
        b"36 35 98:99999999999 / /b rw - ext3 /dev/root rw",
    ] {
        assert_eq!(parse(line, Path::new("/")), None, "{}", label(line));
    }
}

#[test]
fn of_mounts_with_the_same_labels_the_one_on_top_is_given_and_a_cut_line_costs_no_other() {
    let text = b"1 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                 2 1 0:5 / /proc rw - proc proc rw\n\
                 3 1 0:6 / /run ro - tmpfs tmpfs rw\n\
                 4 1 0:6 / /run rw - tmpfs tmpfs rw\n\
                 5 1 0:7 / /overlay rw - overlay overlay rw\n\
                 6 1 8:2 / /data rw - xfs /dev/s";
    let mounts = selection("/").mounts(text);
    let found: Vec<_> = mounts.list.iter().map(|m| (m.point.as_str(), m.is_readonly)).collect();
    assert_eq!(found, [("/", false), ("/run", false)]);
    assert!(mounts.fault.is_some());
}

#[test]
fn errors_are_labels_in_the_spelling_of_node_exporter() {
    for (error, text) in [
        (Errno::ACCESS, "permission denied"),
        (Errno::NOENT, "no such file or directory"),
        (Errno::STALE, "stale file handle"),
        (Errno::NOTCONN, "transport endpoint is not connected"),
        (Errno::IO, "input/output error"),
        (Errno::HOSTDOWN, "host is down"),
    ] {
        assert_eq!(error_text(error), text);
    }
}

#[test]
fn a_mount_that_fails_has_no_sizes() {
    let (mount, _) = parse(b"36 35 98:0 / /b rw - ext3 d rw", Path::new("/")).unwrap();
    for (answer, error) in
        [(Answer::Failed(Errno::STALE), "stale file handle"), (Answer::Hangs, "mountpoint timeout")]
    {
        let mut samples = Samples::new(FAMILIES.len());
        mount.write(&answer, &mut samples.writer(0, &[true; FAMILIES.len()]));
        assert_eq!(samples.len(), 2);
        let sample = samples.family(F::DeviceError as usize)[0];
        assert_eq!(sample.value, 1.0);
        let labels = format!(r#"device="d",device_error="{error}",fstype="ext3",mountpoint="/b""#);
        assert_eq!(samples.labels(sample.labels), labels.as_bytes());
    }
}
