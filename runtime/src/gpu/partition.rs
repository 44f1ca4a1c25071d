//! Partitions as an operator writes them: `4g@0=vision 3g@4=text/retraining`.

use migrator_mig::{Catalog, Partition, Placement, Site};

/// One instance of a written partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// Profile and placement.
    pub site: Site,
    /// Tenant, and whether its retraining is meant.
    pub task: Option<(String, bool)>,
}

/// Reads a partition of this catalog; `empty` and the empty text are the empty one.
///
/// # Errors
/// What is wrong with which instance, and what may stand there.
pub(super) fn parse(catalog: &Catalog, text: &str) -> Result<Vec<Written>, String> {
    let words = text.split([' ', ',']).filter(|word| !word.is_empty() && *word != "empty");
    let mut instances = words.map(|word| instance(catalog, word)).collect::<Result<Vec<Written>, String>>()?;
    instances.sort_by_key(|written| written.site);
    Partition::new(catalog, instances.iter().map(|written| written.site).collect()).map_err(|error| format!("{text:?}: {error}"))?;
    Ok(instances)
}

fn instance(catalog: &Catalog, word: &str) -> Result<Written, String> {
    let (place, task) = word.split_once('=').map_or((word, None), |(place, task)| (place, Some(task)));
    let shape = || format!("{word:?}: expected PROFILE@START or PROFILE@START=TENANT or PROFILE@START=TENANT/retraining");
    let (name, start) = place.split_once('@').ok_or_else(shape)?;
    let start: u8 = start.parse().map_err(|_| shape())?;
    let profile = catalog.by_name(name).ok_or_else(|| {
        let names: Vec<String> = catalog.profile_ids().map(|id| catalog.short_name(id)).collect();
        format!("{word:?}: {} has no profile {name:?}; it has {}", catalog.name, names.join(", "))
    })?;
    let of = catalog.profile(profile);
    if !of.starts.contains(&start) {
        let starts: Vec<String> = of.starts.iter().map(u8::to_string).collect();
        return Err(format!("{word:?}: {name} of {} may start at {}", catalog.name, starts.join(", ")));
    }
    let task = task.map(|task| match task.split_once('/') {
        None if !task.is_empty() => Ok((task.to_owned(), false)),
        Some((tenant, "retraining")) if !tenant.is_empty() => Ok((tenant.to_owned(), true)),
        _ => Err(shape()),
    });
    Ok(Written { site: Site { placement: Placement { start, size: of.memory_slices }, profile }, task: task.transpose()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_read_with_its_tasks() {
        let catalog = Catalog::seven_slices("A100", 80 * 1024);
        let read = parse(&catalog, "3g@4=text/retraining, 4g@0=vision").unwrap();
        let tasks: Vec<Option<(String, bool)>> = read.iter().map(|written| written.task.clone()).collect();
        assert_eq!(tasks, [Some(("vision".to_owned(), false)), Some(("text".to_owned(), true))]);
        assert_eq!(parse(&catalog, "empty"), Ok(Vec::new()));
    }

    #[test]
    fn what_cannot_be_is_said_with_what_can() {
        let catalog = Catalog::seven_slices("A100", 80 * 1024);
        let refused = |text: &str| parse(&catalog, text).unwrap_err();
        assert_eq!(refused("5g@0"), "\"5g@0\": A100 has no profile \"5g\"; it has 1g, 2g, 3g, 4g, 7g");
        assert_eq!(refused("3g@2"), "\"3g@2\": 3g of A100 may start at 0, 4");
        assert!(refused("3g").contains("expected PROFILE@START"));
        assert!(refused("1g@0=").contains("expected PROFILE@START"));
        assert!(refused("4g@0 1g@3").starts_with("\"4g@0 1g@3\": "));
    }
}
