//! Which collectors one request wants: `collect[]` and `exclude[]`, as node_exporter has them.

use crate::collector::COLLECTORS;

/// A set of collectors, by their places in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Selection {
    collectors: u128,
    is_named: bool,
}

const _: () = assert!(COLLECTORS.len() <= u128::BITS as usize, "a selection needs more bits");

/// Why a request's parameters make no sense; the texts are node_exporter's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// Both were given.
    #[error("Combined collect and exclude queries are not allowed.")]
    Combined,
    /// There is no such collector.
    #[error("Couldn't create filtered metrics handler: couldn't create collector: missing collector: {0}")]
    Missing(String),
    /// It does not run.
    #[error("Couldn't create filtered metrics handler: couldn't create collector: disabled collector: {0}")]
    Disabled(&'static str),
}

impl Selection {
    /// Every collector that runs.
    pub const ALL: Selection = Selection { collectors: u128::MAX, is_named: false };

    /// What the query of a request selects.
    ///
    /// # Errors
    /// [`SelectionError::Combined`] or [`SelectionError::Missing`]; which collectors run shows at the scrape.
    pub fn parse(query: &str) -> Result<Self, SelectionError> {
        let (mut collect, mut exclude) = (None, None);
        for (key, name) in form_urlencoded::parse(query.as_bytes()) {
            let bit = || COLLECTORS.iter().position(|c| c.name == name).map(|index| 1u128 << index);
            match &*key {
                "collect[]" => {
                    let bit = bit().ok_or_else(|| SelectionError::Missing(name.clone().into_owned()));
                    collect = Some(collect.unwrap_or(Ok(0)).and_then(|set: u128| Ok(set | bit?)));
                }
                // To leave out what is not there is no error.
                "exclude[]" => exclude = Some(exclude.unwrap_or(0) | bit().unwrap_or(0)),
                _ => {}
            }
        }
        match (collect, exclude) {
            (None, None) => Ok(Self::ALL),
            (Some(_), Some(_)) => Err(SelectionError::Combined),
            (Some(collect), None) => Ok(Selection { collectors: collect?, is_named: true }),
            (None, Some(exclude)) => Ok(Selection { collectors: !exclude, is_named: false }),
        }
    }

    /// Whether the collector at this place of the list is among them.
    pub fn has(self, index: usize) -> bool {
        self.collectors & (1 << index) != 0
    }

    /// Checks that what was named runs.
    ///
    /// # Errors
    /// [`SelectionError::Disabled`]
    pub(super) fn check(self, runs: impl Fn(usize) -> bool) -> Result<(), SelectionError> {
        let mut named = (0..COLLECTORS.len()).filter(|index| self.is_named && self.has(*index));
        match named.find(|index| !runs(*index)) {
            Some(index) => Err(SelectionError::Disabled(COLLECTORS[index].name)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(query: &str) -> Result<Vec<&'static str>, SelectionError> {
        let selection = Selection::parse(query)?;
        Ok(COLLECTORS.iter().enumerate().filter(|(i, _)| selection.has(*i)).map(|(_, c)| c.name).collect())
    }

    #[test]
    fn collectors_are_chosen_by_name_or_left_out() {
        assert_eq!(names("collect[]=loadavg&collect%5B%5D=cpu&x=y").unwrap(), ["cpu", "loadavg"]);
        let all = names("").unwrap().len();
        assert_eq!(names("exclude[]=cpu&exclude[]=cpu&exclude[]=nosuch").unwrap().len(), all - 1);
        assert_eq!(names("collect[]=cpu&exclude[]=loadavg"), Err(SelectionError::Combined));
        assert_eq!(names("collect[]=nosuch&exclude[]=loadavg"), Err(SelectionError::Combined));
        assert_eq!(
            names("collect[]=cpu&collect[]=no%20such"),
            Err(SelectionError::Missing("no such".into()))
        );
        assert_eq!(names("collect[]="), Err(SelectionError::Missing(String::new())));
        assert_eq!(names("collect[]=cpu&collect[]=%ff").map_err(|e| e.to_string().len() > 50), Err(true));
    }

    #[test]
    fn what_is_named_must_run_and_what_is_left_out_need_not() {
        let cpu = COLLECTORS.iter().position(|c| c.name == "cpu").unwrap();
        let check = |query: &str| Selection::parse(query).unwrap().check(|index| index != cpu);
        assert_eq!(check("collect[]=loadavg"), Ok(()));
        assert_eq!(check("collect[]=loadavg&collect[]=cpu"), Err(SelectionError::Disabled("cpu")));
        assert_eq!(check("exclude[]=loadavg"), Ok(()));
        assert_eq!(check(""), Ok(()));
    }
}
