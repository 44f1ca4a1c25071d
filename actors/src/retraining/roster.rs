//! What a reload changes: how a tenant is retrained, and whether at all.

use actix::prelude::*;
use migrator_machine::retraining::Tuning;

use super::{ExportSpec, RetrainingActor};

/// Goes by these from now on.
#[derive(Clone, Copy, Debug, PartialEq, Message)]
#[rtype(result = "()")]
pub struct Retune {
    /// When it is worth it, and how a version gets into service.
    pub how: Tuning,
    /// What goes into a data set.
    pub export: ExportSpec,
}

impl Handler<Retune> for RetrainingActor {
    type Result = ();

    fn handle(&mut self, message: Retune, ctx: &mut Self::Context) {
        let Retune { how, export } = message;
        self.machine.retune(how);
        self.parts.export = export.after(self.parts.export);
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
