//! An image with one static program in it, as the tar file that container runtimes import.
//!
//! The same program gives the same bytes: no times, no owner's names.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// What an image is made of.
#[derive(Debug, Clone, Copy)]
pub struct Image<'a> {
    /// Its reference, such as `local/exporter-agent:dev`.
    pub reference: &'a str,
    /// The program that it starts, which has the same name in it.
    pub program: &'a Path,
    /// The folder in which the program lies there, such as `/bin`; `/` is its root.
    pub folder: &'a str,
    /// The arguments when a pod gives none.
    pub arguments: &'a [&'a str],
    /// What it finds in its environment, as `NAME=value`.
    pub environment: &'a [&'a str],
    /// What it says of itself, as keys and values.
    pub labels: &'a [(&'a str, &'a str)],
}

/// Nobody's number, as distroless images use it.
const USER: &str = "65532:65532";

impl Image<'_> {
    /// Writes the tar file.
    pub fn write(&self, to: &Path) -> Result<()> {
        let name =
            self.program.file_name().and_then(|name| name.to_str()).context("the program has no name")?;
        let program =
            fs::read(self.program).with_context(|| format!("cannot read {}", self.program.display()))?;
        let place = Path::new(self.folder).join(name);
        let place = place.to_str().context("the folder has no name that is text")?;
        let inside = place.trim_start_matches('/').to_owned();
        let layer = archive([(inside, program.as_slice(), 0o755)])?;
        let layer_hash = hash(&layer);
        let labels: BTreeMap<&str, &str> = self.labels.iter().copied().collect();
        let config = serde_json::to_vec(&json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "Entrypoint": [place],
                "Cmd": self.arguments,
                "Env": self.environment,
                "User": USER,
                "Labels": labels,
            },
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_hash}")]},
        }))?;
        let (config_file, layer_file) =
            (format!("{}.json", hash(&config)), format!("{layer_hash}/layer.tar"));
        let manifest = serde_json::to_vec(&json!([
            {"Config": config_file, "RepoTags": [self.reference], "Layers": [layer_file]},
        ]))?;
        let whole = archive([
            (config_file, config.as_slice(), 0o644),
            (layer_file, layer.as_slice(), 0o644),
            ("manifest.json".to_owned(), manifest.as_slice(), 0o644),
        ])?;
        let mut file = File::create(to).with_context(|| format!("cannot create {}", to.display()))?;
        file.write_all(&whole).with_context(|| format!("cannot write {}", to.display()))
    }
}

fn archive<'a>(files: impl IntoIterator<Item = (String, &'a [u8], u32)>) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content, mode) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        builder.append_data(&mut header, name, content).context("cannot write an archive")?;
    }
    builder.into_inner().context("cannot write an archive")
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Go's names, which image configurations use.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_same_program_gives_the_same_bytes_and_says_what_it_is() {
        let folder = std::env::temp_dir().join(format!("exporter-image-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let program = folder.join("program");
        fs::write(&program, "not really one").unwrap();
        let image = Image {
            reference: "local/program:dev",
            program: &program,
            folder: "/",
            arguments: &["pause"],
            environment: &["A=1"],
            labels: &[("org.opencontainers.image.revision", "abc")],
        };
        let tars = ["a.tar", "b.tar"].map(|name| {
            image.write(&folder.join(name)).unwrap();
            fs::read(folder.join(name)).unwrap()
        });
        fs::remove_dir_all(&folder).unwrap();
        assert!(tars[0] == tars[1]);
        let files = files(&tars[0]);
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        let [config, layer, "manifest.json"] = names.as_slice() else { panic!("{names:?}") };
        let manifest: Value = serde_json::from_slice(&files[2].1).unwrap();
        let expected = json!([{"Config": config, "Layers": [layer], "RepoTags": ["local/program:dev"]}]);
        assert_eq!(manifest, expected);
        let config: Value = serde_json::from_slice(&files[0].1).unwrap();
        let expected = json!({
            "Entrypoint": ["/program"],
            "Cmd": ["pause"],
            "Env": ["A=1"],
            "User": "65532:65532",
            "Labels": {"org.opencontainers.image.revision": "abc"},
        });
        assert_eq!(config["config"], expected);
        assert_eq!(config["rootfs"]["diff_ids"], json!([format!("sha256:{}", hash(&files[1].1))]));
        assert_eq!(self::files(&files[1].1), [("program".to_owned(), b"not really one".to_vec())]);
    }

    fn files(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut archive = tar::Archive::new(archive);
        let read = |entry: std::io::Result<tar::Entry<'_, _>>| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
            (entry.path().unwrap().display().to_string(), content)
        };
        archive.entries().unwrap().map(read).collect()
    }
}
