//! What a reload changes: how a tenant is retrained, and whether at all.

use actix::prelude::*;

use super::{ExportSpec, RetrainingActor};

/// Goes by these from now on.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Retune {
    /// Whether there are retrainings.
    pub enabled: bool,
    /// Fewest samples that begin one.
    pub min_samples: u64,
    /// Least gain that is published.
    pub min_gain: f64,
    /// Whether a version that does worse is taken back.
    pub rollback: bool,
    /// What goes into a data set.
    pub export: ExportSpec,
}

impl Handler<Retune> for RetrainingActor {
    type Result = ();

    fn handle(&mut self, message: Retune, ctx: &mut Self::Context) {
        let Retune { enabled, min_samples, min_gain, rollback, export } = message;
        self.machine.retune(enabled, min_samples, min_gain, rollback);
        (self.parts.config.rollback, self.parts.export) = (rollback, export);
        self.pump(ctx);
    }
}

/// Its tenant is served no longer: nothing is retrained any more.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Leave;

impl Handler<Leave> for RetrainingActor {
    type Result = ();

    fn handle(&mut self, _: Leave, ctx: &mut Self::Context) {
        let (folder, staged) = (self.parts.folder.clone(), self.run.take().map(|run| run.out));
        tokio::task::spawn_blocking(move || {
            // As after a window: what cannot be removed now is removed at the next start.
            let _ = std::fs::remove_dir_all(folder);
            if let Some(staged) = staged {
                let _ = std::fs::remove_dir_all(staged);
            }
        });
        ctx.stop();
    }
}
