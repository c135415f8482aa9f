//! How a command ends badly: what is said, and the exit code.

use std::error::Error;
use std::fmt::Display;
use std::io;
use std::process::ExitCode;

use crate::admin::control;
use crate::app::tokens::TokensError;
use crate::listen::authority::CaError;
use crate::store::OpenError;
use crate::{app, config, upstream};

/// Exit codes of `sysexits.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The command line is wrong.
    Usage,
    /// Data is damaged.
    Data,
    /// Nothing has the name that was given.
    NoInput,
    /// A service that is needed is not there.
    Unavailable,
    /// The program is wrong.
    Software,
    /// A file or socket cannot be made.
    CantCreate,
    /// Reading or writing failed.
    Io,
    /// It may work later.
    TryAgain,
    /// Somebody else may.
    NoPermission,
    /// The settings are wrong.
    Config,
    /// As the owner of the data directory said.
    Other(u8),
}

impl Exit {
    /// As a process ends with it.
    pub fn code(self) -> u8 {
        match self {
            Self::Usage => 64,
            Self::Data => 65,
            Self::NoInput => 66,
            Self::Unavailable => 69,
            Self::Software => 70,
            Self::CantCreate => 73,
            Self::Io => 74,
            Self::TryAgain => 75,
            Self::NoPermission => 77,
            Self::Config => 78,
            Self::Other(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command did not do what was asked.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    /// A failure that is explained by `message`.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// A failure whose causes are worth telling, and what to do about it.
    fn caused(exit: Exit, error: &(dyn Error + 'static), remedy: &str) -> Self {
        let causes = std::iter::successors(Some(error), |e| (*e).source());
        let mut message = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
        if !remedy.is_empty() {
            message = format!("{message}\n{remedy}");
        }
        Self { exit, message }
    }

    /// What is said.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// As what the process ends.
    pub fn code(&self) -> u8 {
        self.exit.code()
    }

    /// Whether it is that nothing has the name that was given.
    pub fn is_of_the_name(&self) -> bool {
        self.exit.code() == Exit::NoInput.code()
    }

    /// Says why on stderr.
    pub fn report(self) -> ExitCode {
        // An empty message is a command that has said everything itself.
        if !self.message.is_empty() {
            eprintln!("hubcache: {}", self.message);
        }
        self.exit.into()
    }
}

/// Output that cannot be written; a reader that has left (`| head`) is no failure.
pub fn output(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Io, format!("the output cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}

/// A message that begins with what was tried.
pub fn io_failure(tried: impl Display, error: &io::Error) -> Failure {
    let exit = match error.kind() {
        io::ErrorKind::PermissionDenied => Exit::NoPermission,
        _ => Exit::Io,
    };
    Failure::new(exit, format!("{tried}: {error}"))
}

impl From<config::Problems> for Failure {
    fn from(problems: config::Problems) -> Self {
        Self::new(Exit::Config, problems.to_string())
    }
}

impl From<CaError> for Failure {
    fn from(error: CaError) -> Self {
        let (exit, remedy) = of_certificate(&error);
        Self::caused(exit, &error, &remedy)
    }
}

impl From<control::Failure> for Failure {
    fn from(failure: control::Failure) -> Self {
        Self::new(Exit::Other(failure.exit), failure.error)
    }
}

impl From<app::Error> for Failure {
    fn from(error: app::Error) -> Self {
        use app::Error as E;
        let (exit, remedy) = match &error {
            E::Open(open) => of_open(open),
            E::Upstream(upstream::BuildError::CaBundle { .. }) => (Exit::Config, String::new()),
            E::Upstream(upstream::BuildError::Tls(_)) | E::Task(_) => (Exit::Software, String::new()),
            E::Certificate(error) => of_certificate(error),
            E::Tokens(error) => of_tokens(error),
            E::Audit(..) => {
                (Exit::CantCreate, "give a file that this user can write to with --audit FILE".to_owned())
            }
            E::Settings(_) | E::Lend(_) => (Exit::Io, String::new()),
            E::Delivered(_) => (Exit::Data, "settings.server = off serves its models alone".to_owned()),
            E::OwnParent(_) => {
                (Exit::Config, "name another proxy, or none with --upstream-proxy none".to_owned())
            }
            E::Bind { setting, source, .. } => of_bind(setting, source),
            E::Control(_) => (Exit::CantCreate, "check the data directory and $XDG_RUNTIME_DIR".to_owned()),
            E::Signals(_) => (Exit::Unavailable, String::new()),
        };
        Self::caused(exit, &error, &remedy)
    }
}

fn of_open(error: &OpenError) -> (Exit, String) {
    let (exit, remedy) = match error {
        OpenError::Owned { .. } => {
            (Exit::TryAgain, "stop that process first, or give another directory with --data DIR")
        }
        // What the error says of itself is what to do, and another start would not help.
        OpenError::Layout { .. } | OpenError::NetworkFileSystem { .. } => (Exit::Config, ""),
        OpenError::Create { .. } => {
            (Exit::CantCreate, "give a directory that this user can write to with --data DIR")
        }
        OpenError::Io { .. } => (Exit::Io, ""),
        OpenError::Damaged { .. } => {
            (Exit::Data, "move the directory away; what it held is downloaded again when it is asked for")
        }
    };
    (exit, remedy.to_owned())
}

/// What is said of an authority or a certificate that cannot be used, and what is to be done about it.
pub fn certificate_trouble(error: &CaError) -> (String, String) {
    (control::chain(error), of_certificate(error).1)
}

/// What is to be done about an authority or a certificate that cannot be used.
fn of_certificate(error: &CaError) -> (Exit, String) {
    match error {
        CaError::Exists(_) => {
            (Exit::CantCreate, "`hubcache ca show` shows it; to make another, move its files away".to_owned())
        }
        CaError::Io(path, e) if e.kind() == io::ErrorKind::NotFound => {
            (Exit::NoInput, format!("there is no {}; `hubcache ca init` makes an authority", path.display()))
        }
        CaError::Io(..) => (Exit::Io, String::new()),
        CaError::Open(path, _) => (Exit::Config, format!("make it private: chmod 600 {}", path.display())),
        CaError::Content(..) => (Exit::Config, String::new()),
        CaError::Host(_) => {
            (Exit::Usage, "give names such as hub.example.org, without a scheme or a port".to_owned())
        }
        CaError::Refused(_) => (Exit::Software, String::new()),
    }
}

impl From<TokensError> for Failure {
    fn from(error: TokensError) -> Self {
        let (exit, remedy) = of_tokens(&error);
        Self::caused(exit, &error, &remedy)
    }
}

/// What is to be done about a file of tokens and rules that is no use.
fn of_tokens(error: &TokensError) -> (Exit, String) {
    match error {
        TokensError::Io(path, e) if e.kind() == io::ErrorKind::NotFound => {
            let path = path.display();
            (Exit::NoInput, format!("there is no {path}; `hubcache token add NAME --tokens {path}` makes it"))
        }
        TokensError::Io(_, e) if e.kind() == io::ErrorKind::PermissionDenied => {
            (Exit::NoPermission, String::new())
        }
        TokensError::Io(..) => (Exit::Io, String::new()),
        TokensError::Open(path, _) => {
            (Exit::Config, format!("let only its owner change it: chmod go-w {}", path.display()))
        }
        TokensError::Content(..) => (Exit::Config, String::new()),
    }
}

fn of_bind(setting: &str, error: &io::Error) -> (Exit, String) {
    let flag = setting.strip_suffix(".address").unwrap_or(setting);
    match error.kind() {
        io::ErrorKind::AddrInUse => (
            Exit::Unavailable,
            format!("another program listens there; stop it, or choose with --{flag} ADDR"),
        ),
        io::ErrorKind::AddrNotAvailable => {
            (Exit::Unavailable, format!("this machine does not have that address; choose with --{flag} ADDR"))
        }
        io::ErrorKind::PermissionDenied => {
            (Exit::CantCreate, format!("choose a port from 1024 on with --{flag} ADDR"))
        }
        _ => (Exit::CantCreate, format!("choose another address with --{flag} ADDR")),
    }
}
