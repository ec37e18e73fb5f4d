//! The objects of one kind as a watch keeps them: listed, then changed one by one.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use kube::api::Api;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_objects};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::telemetry::Telemetry;

/// The objects of one kind, by name, reduced to what is read of them.
#[derive(Debug)]
pub(crate) struct Table<T> {
    pub(crate) rows: BTreeMap<String, Arc<T>>,
    /// Whether they have been listed once.
    pub(crate) complete: bool,
    /// A list that has not come to its end.
    listing: BTreeMap<String, Arc<T>>,
}

impl<T: PartialEq> Table<T> {
    /// Takes an event and says whether a row changed by it; a node's heartbeat changes none.
    fn take(&mut self, event: Event<(String, T)>) -> bool {
        match event {
            Event::Init => {
                self.listing.clear();
                false
            }
            Event::InitApply((name, row)) => {
                self.listing.insert(name, Arc::new(row));
                false
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listing);
                let changed = self.rows != listed || !self.complete;
                (self.rows, self.complete) = (listed, true);
                changed
            }
            Event::Apply((name, row)) => {
                let changed = self.rows.get(&name).is_none_or(|known| **known != row);
                self.rows.insert(name, Arc::new(row));
                changed
            }
            Event::Delete((name, _)) => self.rows.remove(&name).is_some(),
        }
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table { rows: BTreeMap::new(), complete: false, listing: BTreeMap::new() }
    }
}

/// How objects of one kind become rows of one table of `S`.
pub(crate) struct Kept<K, T, S> {
    /// The resource, for the log and the metric.
    pub(crate) name: &'static str,
    /// Which of its objects.
    pub(crate) such: watcher::Config,
    pub(crate) read: fn(K) -> T,
    pub(crate) table: fn(&mut S) -> &mut Table<T>,
}

/// Watches until the task is dropped.
pub(crate) async fn keep<K, T, S>(
    api: Api<K>,
    kept: Kept<K, T, S>,
    tables: Arc<watch::Sender<S>>,
    telemetry: Telemetry,
) where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    T: PartialEq + Send,
{
    let row = |object: K| (object.name_any(), (kept.read)(object));
    let mut events = pin!(watch_objects(api, kept.such.clone()).default_backoff());
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(Event::Init) => Event::Init,
            Ok(Event::InitApply(object)) => Event::InitApply(row(object)),
            Ok(Event::InitDone) => Event::InitDone,
            Ok(Event::Apply(object)) => Event::Apply(row(object)),
            Ok(Event::Delete(object)) => Event::Delete(row(object)),
            Err(error) => {
                telemetry.watch_errors.with_label_values(&[kept.name]).inc();
                tracing::warn!(resource = kept.name, %error, "cannot watch; trying again");
                continue;
            }
        };
        tables.send_if_modified(|tables| (kept.table)(tables).take(event));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(table: &Table<u8>) -> Vec<(&str, u8)> {
        table.rows.iter().map(|(name, row)| (name.as_str(), **row)).collect()
    }

    #[test]
    fn a_list_counts_when_it_has_come_to_its_end() {
        let mut table = Table::default();
        assert!(!table.take(Event::Init));
        assert!(!table.take(Event::InitApply(("a".into(), 1))));
        assert!(!table.complete && table.rows.is_empty());
        assert!(table.take(Event::InitDone));
        assert_eq!(rows(&table), [("a", 1)]);
    }

    #[test]
    fn what_a_new_list_lacks_is_gone_and_an_equal_list_is_no_change() {
        let mut table = Table::default();
        let mut list = |names: &[&str]| {
            table.take(Event::Init);
            names.iter().for_each(|name| _ = table.take(Event::InitApply(((*name).into(), 1))));
            (table.take(Event::InitDone), rows(&table).len())
        };
        assert_eq!(list(&["a", "b"]), (true, 2));
        assert_eq!(list(&["a", "b"]), (false, 2));
        assert_eq!(list(&["b"]), (true, 1));
    }

    #[test]
    fn an_update_that_leaves_the_row_as_it_is_is_no_change() {
        let mut table = Table::default();
        assert!(table.take(Event::Apply(("a".into(), 1))));
        assert!(!table.take(Event::Apply(("a".into(), 1))));
        assert!(table.take(Event::Apply(("a".into(), 2))));
        assert!(table.take(Event::Delete(("a".into(), 2))));
        assert!(!table.take(Event::Delete(("a".into(), 2))));
    }
}
