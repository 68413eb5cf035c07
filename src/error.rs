//! One typed error. Each variant says what is wrong, where, and what to do about it.

use std::path::{Path, PathBuf};

/// The crate's result type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong, by what the user has to do about it.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused a file operation.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder concerned.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Input data is malformed; names file, line, field and the remedy.
    #[error("{0}")]
    Data(Box<DataError>),
    /// A setting is unknown or has an impossible value.
    #[error("config: {key}: {message}")]
    Config {
        /// Dotted name of the setting, for example `train.batch_size`.
        key: String,
        /// What is wrong and what would be right.
        message: String,
    },
    /// The command line asks for something that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// A model folder, checkpoint or weight file cannot be used.
    #[error("{}: {message}", path.display())]
    Model {
        /// The folder or file concerned.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
    /// Training or evaluation met a number it must not go on with (NaN, a missing gradient, …).
    #[error("{0}")]
    Numeric(String),
    /// The model hub could not be reached or refused.
    #[error("hub: {0}")]
    Hub(String),
    /// An error inside the tensor library.
    #[error("tensor: {0}")]
    Tensor(#[from] candle_core::Error),
}

/// Where a piece of input data is wrong, and the remedy.
#[derive(Debug, Default, Clone)]
pub struct DataError {
    /// The file.
    pub file: PathBuf,
    /// 1-based line (or row) number.
    pub line: Option<u64>,
    /// Column or field name.
    pub field: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What the user can do.
    pub remedy: Option<String>,
}

impl std::fmt::Display for DataError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(field) = &self.field {
            write!(f, ": field `{field}`")?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(remedy) = &self.remedy {
            write!(f, "; {remedy}")?;
        }
        Ok(())
    }
}

impl DataError {
    /// A data error in `file`.
    pub fn new(file: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Self { file: file.as_ref().into(), message: message.into(), ..Self::default() }
    }
    /// Adds the 1-based line.
    pub fn line(mut self, line: u64) -> Self {
        self.line = Some(line);
        self
    }
    /// Adds the field's name.
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }
    /// Adds the remedy.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// What is wrong with the file itself, where an I/O error says so; `None` where the system or the disk is at fault.
fn defect(e: &std::io::Error) -> Option<String> {
    use std::io::ErrorKind::{InvalidData, IsADirectory, NotADirectory, NotFound, UnexpectedEof};
    match e.kind() {
        NotFound | NotADirectory => Some("missing".into()),
        IsADirectory => Some("is not a regular file".into()),
        InvalidData | UnexpectedEof => Some(format!("damaged: {e}")),
        _ => None,
    }
}

impl From<DataError> for Error {
    fn from(e: DataError) -> Self {
        Self::Data(Box::new(e))
    }
}

impl Error {
    /// Wraps an I/O error with the path it concerns.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { path, source }
    }
    /// Wraps an I/O error on a file that belongs to a model, a run, a checkpoint or an adapter. A file that is missing,
    /// is a folder or holds something else than it should is [`Error::Model`]; what the system refuses is [`Error::Io`].
    pub fn model_io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| match defect(&source) {
            Some(m) => Self::Model { path, message: format!("{m}; fetch or write its folder again") },
            None => Self::Io { path, source },
        }
    }
    /// As [`Error::model_io`] for a file that belongs to a data set or is imported: [`Error::Data`] in the place of
    /// [`Error::Model`].
    pub fn data_io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| match defect(&source) {
            Some(m) => DataError::new(path, m).remedy("check the path, or make the file again").into(),
            None => Self::Io { path, source },
        }
    }
    /// A setting's error.
    pub fn config(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Config { key: key.into(), message: message.into() }
    }
    /// A model's or checkpoint's error.
    pub fn model(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Self::Model { path: path.as_ref().into(), message: message.into() }
    }
    /// The process exit code: 1 internal or I/O, 2 usage or config, 3 data, 4 model or checkpoint,
    /// 5 numeric failure, 6 hub.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Io { .. } | Self::Tensor(_) => 1,
            Self::Config { .. } | Self::Usage(_) => 2,
            Self::Data(_) => 3,
            Self::Model { .. } => 4,
            Self::Numeric(_) => 5,
            Self::Hub(_) => 6,
        }
    }
}
