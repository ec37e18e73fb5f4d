//! Builds the programs that a cluster consists of from Go modules, once, into a cache.
//!
//! A part is a module of its own under `parts/`, because each pins its own versions of what they share. Its `tool`
//! lines are the programs. The folder of a built part carries the hash of what it was built from, so a changed pin
//! builds anew and an unchanged one costs nothing.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest as _, Sha256};

use crate::image::Image;
use crate::interrupt;
use crate::node::Node;
use crate::process::output;
use crate::progress::Step;

/// One module under `parts/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The folder under `parts/`.
    pub name: &'static str,
    /// How long a first build takes on two cores, for the person who waits.
    first_build: &'static str,
    /// Packages that learn their version when they are linked. Without it Kubernetes reports one that clients cannot
    /// parse.
    versioned: &'static [&'static str],
    /// Build tags.
    tags: &'static [&'static str],
}

impl Part {
    const fn new(name: &'static str, first_build: &'static str) -> Self {
        Self { name, first_build, versioned: &[], tags: &[] }
    }
}

/// The API server, its controllers, kubelet, kube-proxy and kubectl.
pub const KUBERNETES: Part = Part {
    versioned: &["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"],
    ..Part::new("kubernetes", "6 min")
};
/// The store of the API server.
pub const ETCD: Part = Part::new("etcd", "30 s");
/// The container runtime, its shim and `ctr`.
pub const CONTAINERD: Part = Part::new("containerd", "1 min");
/// What pods find names by.
pub const COREDNS: Part = Part::new("coredns", "1 min");
/// Who asks the agents, and `promtool`, the judge of expositions. Of its many ways to find targets it has one, since
/// those of the clouds take most of a build.
pub const PROMETHEUS: Part =
    Part { tags: &["remove_all_sd", "enable_kubernetes_sd"], ..Part::new("prometheus", "3 min") };
/// What turns the chart's monitors into a configuration of Prometheus, and what reloads it.
pub const PROMETHEUS_OPERATOR: Part = Part::new("prometheus-operator", "2 min");
/// The exporter whose names we keep, to compare with.
pub const NODE_EXPORTER: Part = Part::new("node_exporter", "15 s");
/// What installs the chart, in the major version that most people have.
pub const HELM: Part = Part::new("helm", "2 min");
/// The same in the next major version, which applies on the server's side.
pub const HELM4: Part = Part::new("helm4", "2 min");
/// What cuts a file system off, as a loss of power does.
pub const POWER_CUT: Part = Part::new("power-cut", "5 s");

/// What a cluster needs.
pub const CLUSTER: [Part; 3] = [KUBERNETES, ETCD, CONTAINERD];

impl Part {
    /// The folder with its programs, which are built first if need be.
    pub fn ensure(&self) -> Result<PathBuf> {
        let source = self.folder();
        let module = read(&source.join("go.mod"))?;
        let version = version(&module).with_context(|| format!("{} requires nothing", source.display()))?;
        let arguments = self.link_arguments(&version);
        let folder =
            cache()?.join(format!("{}-{version}-{}", self.name, self.hash(&source, &module, &arguments)?));
        if folder.is_dir() {
            return Ok(folder);
        }
        let lock = File::create(cache()?.join(format!("{}.lock", self.name)))
            .context("cannot create a lock file")?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let step = Step::start(format!("waiting for another process that builds {}", self.name));
            flock(&lock, FlockOperation::LockExclusive).context("cannot lock")?;
            step.done();
        }
        if !folder.is_dir() {
            self.build(&source, &version, &arguments, &folder)?;
        }
        Ok(folder)
    }

    /// The path of one of its programs, which are built first if need be.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let program = self.ensure()?.join(name);
        if !program.is_file() {
            bail!("the part {} has no program {name}", self.name);
        }
        Ok(program)
    }

    /// Brings one of its programs, as the image `local/PROGRAM:dev` in which it lies at `/bin`, into a node.
    pub fn load(&self, program: &str, node: &Node) -> Result<()> {
        let tar = node.folder().join(format!("{program}.tar"));
        Image {
            reference: &format!("local/{program}:dev"),
            program: &self.program(program)?,
            folder: "/bin",
            arguments: &[],
            environment: &[],
            labels: &[],
        }
        .write(&tar)?;
        let loaded = node.load_image(&tar);
        // The node has a copy, and these are large.
        let _ = fs::remove_file(&tar);
        loaded
    }

    /// The folder with the source of a module that it requires, which is fetched first if need be.
    pub fn source(&self, module: &str) -> Result<PathBuf> {
        let mut command = Command::new("go");
        command.current_dir(self.folder()).envs([("GOFLAGS", ""), ("GOWORK", "off")]);
        let said = output(command.args(["mod", "download", "-json", module]))?;
        let said: serde_json::Value = serde_json::from_str(&said).context("`go` printed something else")?;
        said["Dir"]
            .as_str()
            .map(PathBuf::from)
            .with_context(|| format!("`go` does not say where {module} is"))
    }

    fn folder(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("parts").join(self.name)
    }

    fn build(&self, source: &Path, version: &str, arguments: &str, folder: &Path) -> Result<()> {
        let unfinished = folder.with_extension("unfinished");
        let _ = fs::remove_dir_all(&unfinished);
        fs::create_dir_all(&unfinished).with_context(|| format!("cannot create {}", unfinished.display()))?;
        let about = self.first_build;
        let mut step =
            Step::start(format!("building {} {version} (about {about} the first time)", self.name));
        let mut child = Command::new("go")
            .current_dir(source)
            // Static programs, as an image needs them; and no flags of the user's shell, so that every machine builds the same.
            .envs([("CGO_ENABLED", "0"), ("GOFLAGS", ""), ("GOWORK", "off")])
            .args(["build", "-v", "-trimpath", "-buildvcs=false", "-ldflags", arguments])
            .args(["-tags", &self.tags.join(","), "-o"])
            // The slash makes it a folder for several programs.
            .arg([unfinished.as_os_str(), "/".as_ref()].into_iter().collect::<OsString>())
            .arg("tool")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start `go`; install Go 1.26 or newer (https://go.dev/dl)")?;
        let output = child.stderr.take();
        let said = Mutex::new(Vec::new());
        let packages = AtomicUsize::new(0);
        let status = std::thread::scope(|scope| {
            scope.spawn(|| {
                // With -v each line is the name of a package, or a message.
                for line in
                    output.into_iter().flat_map(|output| BufReader::new(output).lines()).map_while(Result::ok)
                {
                    packages.fetch_add(1, Ordering::Relaxed);
                    if let Ok(mut said) = said.lock() {
                        said.push(line);
                    }
                }
            });
            loop {
                if let Some(status) = child.try_wait().context("cannot wait for `go`")? {
                    return Ok(status);
                }
                if let Err(error) = interrupt::check() {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(error);
                }
                step.update(&format!("{} packages", packages.load(Ordering::Relaxed)));
                std::thread::sleep(Duration::from_millis(200));
            }
        })?;
        if !status.success() {
            let said = said.into_inner().unwrap_or_default();
            bail!(
                "`go build` of {} ended with {status}:\n{}",
                self.name,
                said[said.len().saturating_sub(20)..].join("\n")
            );
        }
        fs::rename(&unfinished, folder).with_context(|| format!("cannot create {}", folder.display()))?;
        step.done();
        Ok(())
    }

    fn link_arguments(&self, version: &str) -> String {
        let mut arguments = "-s -w".to_owned();
        let mut numbers = version.split('.');
        let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
        for package in self.versioned {
            for (variable, value) in
                [("gitVersion", format!("v{version}").as_str()), ("gitMajor", major), ("gitMinor", minor)]
            {
                arguments.push_str(&format!(" -X {package}.{variable}={value}"));
            }
        }
        arguments
    }

    fn hash(&self, source: &Path, module: &str, arguments: &str) -> Result<String> {
        let sums = read(&source.join("go.sum"))?;
        let mut hash = Sha256::new();
        for text in [module, &sums, arguments].into_iter().chain(self.tags.iter().copied()) {
            hash.update(text);
        }
        // A program of the part's own.
        if let Ok(program) = fs::read(source.join("main.go")) {
            hash.update(program);
        }
        let digest = hash.finalize();
        Ok(digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect())
    }
}

/// Where built parts are kept: outside the repository, so that a clean checkout finds them.
pub fn cache() -> Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("EXPORTER_OPERATOR_CACHE")
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("exporter-operator")))
        .or_else(|| Some(set("HOME")?.join(".cache/exporter-operator")))
        .context("no place for built parts: set EXPORTER_OPERATOR_CACHE")?
        .join("parts");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The version that a go.mod requires of the module which has its tools; of the only one that it requires by itself
/// where the tool is a program of the part's own.
fn version(module: &str) -> Option<String> {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let own = module.lines().find_map(|line| line.strip_prefix("module "))?;
    let mut lines =
        module.lines().map(|line| words(line.trim_start_matches("require ").trim_start_matches("tool ")));
    let tool = lines.find(|words| words.len() == 1 && words[0].contains('/'))?.swap_remove(0);
    lines.find_map(|words| match words.as_slice() {
        [path, version, rest @ ..] if tool.starts_with(path.as_str()) || (tool == own && rest.is_empty()) => {
            version.strip_prefix('v').map(str::to_owned)
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_a_module_whose_version_is_found() {
        let parts = [
            KUBERNETES,
            ETCD,
            CONTAINERD,
            COREDNS,
            PROMETHEUS,
            PROMETHEUS_OPERATOR,
            NODE_EXPORTER,
            HELM,
            HELM4,
            POWER_CUT,
        ];
        for part in parts {
            let version = version(&read(&part.folder().join("go.mod")).unwrap()).unwrap();
            assert!(
                version.split('.').all(|number| number.parse::<u16>().is_ok()),
                "{}: {version}",
                part.name
            );
        }
    }

    #[test]
    fn a_program_learns_its_version_when_it_is_linked() {
        let arguments = KUBERNETES.link_arguments("1.36.3");
        assert!(arguments.contains(" -X k8s.io/client-go/pkg/version.gitMinor=36"), "{arguments}");
    }
}
