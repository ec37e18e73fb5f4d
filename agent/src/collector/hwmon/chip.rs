//! What a chip is called: after its device, which stays the same, while the numbers of chips depend on who came first.

use std::path::Path;

use crate::devices::Devices;

/// The names of all chips, in their order; those that would have the same name get the driver's, or their number, as well.
pub(super) fn names(chips: &mut Devices, names: &mut Vec<String>) {
    names.clear();
    for i in 0..chips.len() {
        let folder = chips.path(i);
        let driver = chips.text(i, 0);
        names.push(by_device(&folder).unwrap_or_else(|| {
            let name = driver.map(|driver| clean(&driver)).filter(|name| !name.is_empty());
            name.unwrap_or_else(|| clean(&last_part(&folder)))
        }));
    }
    let alone = |i: usize| names.iter().filter(|name| **name == names[i]).count() == 1;
    let twins: Vec<usize> = (0..names.len()).filter(|i| !alone(*i)).collect();
    let drivers: Vec<_> = twins
        .iter()
        .map(|i| (names[*i].clone(), chips.text(*i, 0).unwrap_or_default().into_owned()))
        .collect();
    for ((name, driver), i) in drivers.iter().zip(twins) {
        let is_alone = drivers.iter().filter(|other| **other == (name.clone(), driver.clone())).count() == 1;
        let mut suffix = clean(driver);
        if suffix.is_empty() || !is_alone {
            suffix = clean(chips.name(i));
        }
        names[i] = format!("{name}_{suffix}");
    }
}

/// `platform_coretemp_0` of a chip whose device is `/sys/devices/platform/coretemp.0`.
fn by_device(folder: &Path) -> Option<String> {
    let device = folder.join("device").canonicalize().ok()?;
    let part = |path: &Path| clean(&path.file_name().unwrap_or_default().to_string_lossy());
    let name = Some(part(&device)).filter(|name| !name.is_empty())?;
    match device.parent().map(part).filter(|bus| !bus.is_empty()) {
        Some(bus) => Some(format!("{bus}_{name}")),
        None => Some(name),
    }
}

fn last_part(folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn clean(text: &str) -> String {
    let mut name = String::new();
    push_clean(&mut name, text);
    name
}

/// Appends a text in lower case, with `_` for what a family's name may not hold, and none at its ends.
pub(super) fn push_clean(name: &mut String, text: &str) {
    let start = name.len();
    for c in text.chars().flat_map(char::to_lowercase) {
        let c = if matches!(c, 'a'..='z' | '0'..='9' | ':') { c } else { '_' };
        if c != '_' || name.len() > start {
            name.push(c);
        }
    }
    while name.len() > start && name.ends_with('_') {
        name.pop();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::sync::Arc;

    use super::*;
    use crate::source::file::HandleBudget;

    #[test]
    fn names_hold_only_what_families_may() {
        let found = ["coretemp.0\n", "__A-b__", "0000:00:18.3", "--", "\u{c9}t\u{e9}"].map(clean);
        assert_eq!(found, ["coretemp_0", "a_b", "0000:00:18_3", "", "t"]);
    }

    #[test]
    fn a_chip_is_called_after_its_device_and_twins_after_their_drivers_too() {
        let path = std::env::temp_dir().join(format!("hwmon-{}", std::process::id()));
        let chip = |number: u8, device: &str, driver: &str| {
            let folder = path.join("class").join(format!("hwmon{number}"));
            fs::create_dir_all(&folder).unwrap();
            if !device.is_empty() {
                let device = path.join("devices").join(device);
                fs::create_dir_all(&device).unwrap();
                symlink(&device, folder.join("device")).unwrap();
            }
            if !driver.is_empty() {
                fs::write(folder.join("name"), format!("{driver}\n")).unwrap();
            }
        };
        chip(0, "platform/coretemp.0", "coretemp");
        chip(1, "", "Acpi Fan");
        chip(2, "", "");
        chip(3, "platform/asus", "asus");
        chip(4, "platform/asus", "asus-ec");
        chip(5, "pci/nic", "mlx5");
        chip(6, "pci/nic", "mlx5");
        let mut chips = Devices::new(path.join("class"), &["name"], &Arc::new(HandleBudget::new(9)));
        chips.list().unwrap();
        let mut found = Vec::new();
        names(&mut chips, &mut found);
        let mut found: Vec<_> =
            found.iter().enumerate().map(|(i, name)| (chips.name(i), name.as_str())).collect();
        found.sort();
        let expected = [
            "platform_coretemp_0",
            "acpi_fan",
            "hwmon2",
            "platform_asus_asus",
            "platform_asus_asus_ec",
            "pci_nic_hwmon5",
            "pci_nic_hwmon6",
        ];
        assert_eq!(found.iter().map(|(_, name)| *name).collect::<Vec<_>>(), expected);
        fs::remove_dir_all(&path).unwrap();
    }
}
