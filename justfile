# Every command there is; CI runs the same.

# What there is.
default:
    @just --list

# The main job, live on a real cluster (root); alone on this host without root.
run:
    cargo up

# Formats every source file.
fmt:
    cargo fmt --all

# What a reader need not look for by eye.
lint:
    cargo verify format lint deny

# Unit and golden tests.
test:
    cargo verify unit promtool chart

# Two real nodes.
e2e:
    cargo verify e2e

# Everything that CI runs, in its order.
check:
    cargo verify

# The images of operator and agent as tar files, with version and commit.
images *ARGS:
    cargo images {{ARGS}}

# The Debian package of the agent, for machines without Kubernetes.
deb *ARGS:
    cargo deb {{ARGS}}

# What both programs are built from, as CycloneDX lists.
sbom *ARGS:
    cargo run -q -p e2e --bin sbom -- {{ARGS}}

# What it costs, as ratios.
bench *ARGS:
    cargo bench -p benches {{ARGS}}

# Fuzzes an entry of `fuzz/` for so many seconds, from what is kept of it on; needs a nightly toolchain and cargo-fuzz.
fuzz ENTRY='node_files' SECONDS='1200':
    mkdir -p fuzz/libfuzzer/corpus/{{ENTRY}} fuzz/corpus/{{ENTRY}}
    cargo +nightly fuzz run --fuzz-dir fuzz/libfuzzer {{ENTRY}} fuzz/libfuzzer/corpus/{{ENTRY}} fuzz/corpus/{{ENTRY}} -- -max_total_time={{SECONDS}}

# Writes every generated and golden file anew; look at the difference before you commit it.
generate:
    UPDATE_EXPECT=1 cargo test -q --workspace --exclude e2e
    UPDATE_EXPECT=1 cargo verify chart

# Copies from a real node the files that the agent reads, as a new fixture.
record-node NAME *ARGS:
    cargo run -q -p agent --example record-node -- {{ARGS}} agent/fixtures/{{NAME}}
