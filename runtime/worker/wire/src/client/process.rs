//! Starts a worker process, exchanges `Hello`, and watches it to its end.

use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::exit::kernel_kills;
use super::link::{Link, LinkEnd, Reader};
use super::output::{LastWords, forward};
use super::{Exit, Inner, SpawnError, SpawnOptions, WorkerExit, WorkerHandle, inherit};
use crate::frame::FrameError;
use crate::frame::stream::{FrameReader, Rope};
use crate::message::{FromWorker, PROTOCOL, ToWorker};

/// A worker ends by itself when its socket closes; after this long it is killed. Also how long to wait for what is still in the
/// pipes of a process that has ended.
const GRACE: Duration = Duration::from_secs(2);

/// Bytes read ahead: a frame without tensors, or with the logits of a usual batch, comes by one system call.
const READ_AHEAD: usize = 16 * 1024;

pub(super) async fn spawn(options: SpawnOptions) -> Result<(WorkerHandle, WorkerExit), SpawnError> {
    let start = |source| SpawnError::Start { binary: options.binary.clone(), source };
    let (ours, theirs) = StdUnixStream::pair().map_err(start)?;
    ours.set_nonblocking(true).map_err(start)?;
    let stream = UnixStream::from_std(ours).map_err(start)?;
    let mut command = Command::new(&options.binary);
    command
        .envs(options.env.iter().map(|(key, value)| (key, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C in a terminal goes to the foreground group; when a worker ends is for the server to decide.
        .process_group(0)
        .kill_on_drop(true);
    let kernel_kills = kernel_kills();
    let child = inherit::spawn_with(command, &theirs).map_err(start)?;
    drop(theirs);
    let process = Process::new(child, &options.name, kernel_kills);
    let (read, write) = stream.into_split();
    connect(read, write, options, Some(process)).await
}

/// Greets whoever is at the other end; without a process its exit is the end of the stream.
pub(super) async fn connect<R, W>(
    read: R,
    mut write: W,
    options: SpawnOptions,
    mut process: Option<Process>,
) -> Result<(WorkerHandle, WorkerExit), SpawnError>
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let mut reader = FrameReader::new(BufReader::with_capacity(READ_AHEAD, read));
    let within = options.deadlines.hello;
    let hello = timeout(within, greet(&mut reader, &mut write)).await.unwrap_or(Err(SpawnError::Deadline { within }));
    let (said_pid, torch) = match hello {
        Ok(hello) => hello,
        Err(error) => return Err(refuse(error, process).await),
    };
    let pid = process.as_mut().and_then(|process| process.child.id()).unwrap_or(said_pid);
    let (link, end) = Link::start(reader, write, options.queue, 1);
    let (kill, kills) = mpsc::channel(1);
    let (tell_handle, exit) = watch::channel(None);
    let (tell_owner, receiver) = oneshot::channel();
    tokio::spawn(async move {
        let exit = supervise(process, end, kills).await;
        // Either may have lost interest.
        let _ = tell_handle.send(Some(exit.clone()));
        let _ = tell_owner.send(exit);
    });
    let SpawnOptions { name, deadlines, .. } = options;
    let inner = Arc::new(Inner { name, pid, torch, deadlines, link, exit, kill });
    Ok((WorkerHandle { inner }, WorkerExit { receiver }))
}

async fn greet<R, W>(reader: &mut Reader<R>, write: &mut W) -> Result<(u32, String), SpawnError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut rope = Rope::default();
    rope.push(0, &ToWorker::Hello { protocol: PROTOCOL }, Vec::new()).map_err(SpawnError::Protocol)?;
    // A worker that cannot be written to has ended, or has said why not; reading tells.
    let _ = rope.write_to(write).await;
    match reader.read::<FromWorker>().await {
        Ok(Some((0, FromWorker::Hello { protocol: PROTOCOL, pid, torch }, _))) => Ok((pid, torch)),
        Ok(Some((_, FromWorker::Hello { protocol: found, .. }, _))) => Err(SpawnError::Protocol(FrameError::Version { found })),
        Ok(Some(_)) => Err(SpawnError::NoHello),
        Ok(None) | Err(FrameError::Truncated | FrameError::Io(_)) => Err(SpawnError::Ended { exit: Exit::unknown() }),
        Err(error) => Err(SpawnError::Protocol(error)),
    }
}

/// Ends a process whose greeting failed, and adds how it ended by itself when it did.
async fn refuse(error: SpawnError, process: Option<Process>) -> SpawnError {
    let Some(mut process) = process else { return error };
    let ended = matches!(error, SpawnError::Ended { .. });
    if !ended || timeout(GRACE, process.child.wait()).await.is_err() {
        process.kill();
    }
    let exit = process.wait().await;
    if ended { SpawnError::Ended { exit } } else { error }
}

/// A child process and what it says.
pub(super) struct Process {
    child: Child,
    kernel_kills: u64,
    killed: bool,
    last_words: LastWords,
    forwards: Vec<JoinHandle<()>>,
}

impl Process {
    fn new(mut child: Child, name: &str, kernel_kills: u64) -> Process {
        let last_words = LastWords::default();
        let out = child.stdout.take().map(|out| tokio::spawn(forward(name.to_owned(), out, None)));
        let err = child.stderr.take().map(|err| tokio::spawn(forward(name.to_owned(), err, Some(last_words.clone()))));
        Process { child, kernel_kills, killed: false, last_words, forwards: out.into_iter().chain(err).collect() }
    }

    fn kill(&mut self) {
        // An error means that it has ended already.
        self.killed |= self.child.start_kill().is_ok();
    }

    async fn wait(&mut self) -> Exit {
        let status = self.child.wait().await.ok();
        for forward in self.forwards.drain(..) {
            // A grandchild could hold the pipe open; what it says is not waited for.
            let _ = timeout(GRACE, forward).await;
        }
        let kills = kernel_kills().saturating_sub(self.kernel_kills);
        Exit::of(status, kills, self.killed, self.last_words.take())
    }
}

async fn supervise(process: Option<Process>, mut link: LinkEnd, kills: mpsc::Receiver<()>) -> Exit {
    let (mut exit, broken) = match process {
        Some(process) => watch_process(process, &mut link, kills).await,
        None => watch_stream(&mut link, kills).await,
    };
    // Answers the worker gave before its end are still in the socket.
    if timeout(GRACE, &mut link.reader).await.is_err() {
        link.reader.abort();
    }
    let broken = broken.or_else(|| link.broken.try_recv().ok().flatten());
    exit.broken = broken.filter(|cause| !matches!(cause, FrameError::Io(_))).map(|cause| cause.to_string());
    exit
}

/// To the end of a process; a process that outlives its connection, or all handles to it, for [`GRACE`] is killed.
async fn watch_process(mut process: Process, link: &mut LinkEnd, mut kills: mpsc::Receiver<()>) -> (Exit, Option<FrameError>) {
    let mut cause = None;
    let mut patience: Option<Instant> = None;
    let (mut connected, mut wanted) = (true, true);
    loop {
        let out_of_patience = async {
            match patience {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = process.child.wait() => return (process.wait().await, cause),
            broken = link.broken.recv(), if connected => {
                connected = false;
                cause = broken.flatten();
                patience.get_or_insert_with(|| Instant::now() + GRACE);
            }
            kill = kills.recv(), if wanted => match kill {
                Some(()) => process.kill(),
                None => {
                    wanted = false;
                    patience.get_or_insert_with(|| Instant::now() + GRACE);
                }
            },
            () = out_of_patience => {
                process.kill();
                patience = None;
            }
        }
    }
}

/// To the end of a stream without a process; a kill closes it from this side.
async fn watch_stream(link: &mut LinkEnd, mut kills: mpsc::Receiver<()>) -> (Exit, Option<FrameError>) {
    let mut wanted = true;
    loop {
        tokio::select! {
            broken = link.broken.recv() => return (Exit::unknown(), broken.flatten()),
            kill = kills.recv(), if wanted => match kill {
                Some(()) => {
                    link.reader.abort();
                    return (Exit { killed: true, ..Exit::unknown() }, None);
                }
                None => wanted = false,
            },
        }
    }
}
