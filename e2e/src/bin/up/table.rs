//! The table of what an agent exposes about containers: from two expositions to rows of text.

use std::collections::BTreeSet;
use std::time::Duration;

use e2e::exposition::{Exposition, Sample};

/// A table whose first row is the head.
pub(crate) struct Table {
    pub(crate) head: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    /// Containers by namespace, pod and name, with the labels that policies gave them.
    pub(crate) fn of(before: &Exposition, now: &Exposition, between: Duration) -> Self {
        let containers = containers(now);
        let added = added_labels(now);
        let mut head: Vec<String> =
            ["NAMESPACE", "POD", "CONTAINER", "CPU", "MEMORY"].iter().map(|&name| name.to_owned()).collect();
        head.extend(added.iter().cloned());
        let rows = containers.iter().map(|container| {
            let key = ["namespace", "pod", "container"].map(|label| (label, container.label(label)));
            let seconds = sum(now, CPU, &key).zip(sum(before, CPU, &key)).map(|(now, before)| now - before);
            let rate = seconds.map(|seconds| format!("{:.3}", (seconds / between.as_secs_f64()).max(0.0)));
            let memory = sum(now, MEMORY, &key).map(|bytes| format!("{:.1} MiB", bytes / f64::from(1 << 20)));
            let mut row: Vec<String> = key.iter().map(|&(_, value)| value.to_owned()).collect();
            row.extend([rate, memory].map(|cell| cell.unwrap_or_else(|| "-".to_owned())));
            row.extend(added.iter().map(|label| container.label(label).to_owned()));
            row
        });
        let mut rows: Vec<Vec<String>> = rows.collect();
        rows.sort();
        Self { head, rows }
    }

    /// The width of each column.
    pub(crate) fn widths(&self) -> Vec<usize> {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.chain([self.head[column].chars().count()]).max().unwrap_or_default()
        };
        (0..self.head.len()).map(width).collect()
    }
}

/// The names of labels that come from pods.
pub(crate) fn added_labels(exposition: &Exposition) -> BTreeSet<String> {
    let labels = exposition.samples().iter().flat_map(|sample| sample.labels.keys());
    labels.filter(|label| label.starts_with("label_")).cloned().collect()
}

/// How many samples of containers in a namespace a family has.
pub(crate) fn count(exposition: &Exposition, family: &str, namespace: &str) -> usize {
    exposition.select(family, &[("namespace", namespace)]).len()
}

/// A family of containers in a namespace that the table does not need, for an edit to drop.
pub(crate) fn expendable_family(exposition: &Exposition, namespace: &str) -> Option<String> {
    let there = |family: &str| count(exposition, family, namespace) > 0;
    let known = ["container_tasks_state", "container_memory_failures_total", "container_memory_cache"];
    known.iter().find(|family| there(family)).map(|&family| family.to_owned())
}

const CPU: &str = "container_cpu_usage_seconds_total";
const MEMORY: &str = "container_memory_working_set_bytes";

fn containers(exposition: &Exposition) -> Vec<&Sample> {
    let mut found: Vec<&Sample> = Vec::new();
    for sample in exposition.samples() {
        let same = |other: &&Sample| {
            ["namespace", "pod", "container"].iter().all(|it| other.label(it) == sample.label(it))
        };
        if [CPU, MEMORY].contains(&sample.name.as_str())
            && !sample.label("container").is_empty()
            && !found.iter().any(same)
        {
            found.push(sample);
        }
    }
    found
}

fn sum(exposition: &Exposition, family: &str, key: &[(&str, &str)]) -> Option<f64> {
    let found = exposition.select(family, key);
    (!found.is_empty()).then(|| found.iter().map(|sample| sample.value).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_rate_between_two_scrapes_and_the_labels_of_the_pod() {
        let at = |seconds: u32| {
            Exposition::parse(&format!(
                "{CPU}{{namespace=\"shop\",pod=\"web-1\",container=\"\",id=\"/\"}} 99\n\
                 {CPU}{{namespace=\"shop\",pod=\"web-1\",container=\"server\",label_app=\"web\"}} {seconds}\n\
                 {MEMORY}{{namespace=\"shop\",pod=\"web-1\",container=\"server\",label_app=\"web\"}} 1572864\n"
            ))
            .unwrap()
        };
        let table = Table::of(&at(10), &at(11), Duration::from_secs(2));
        assert_eq!(table.head.last().unwrap(), "label_app");
        assert_eq!(table.rows, [["shop", "web-1", "server", "0.500", "1.5 MiB", "web"]]);
    }
}
