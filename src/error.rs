//! The error type of the crate. Each variant states what is wrong, where, and how to fix it.

use std::path::{Path, PathBuf};

/// Result type of the crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Errors, grouped by what the user has to do about them.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum Error {
    /// A file operation failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// File or folder concerned.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// Input data are malformed; the error names file, line, field and remedy.
    #[error("{0}")]
    Data(Box<DataError>),
    /// A setting is unknown or has an impossible value.
    #[error("config: {key}: {message}")]
    Config {
        /// Dotted name of the setting, for example `train.batch_size`.
        key: String,
        /// What is wrong, and which values are allowed.
        message: String,
    },
    /// A request on the command line cannot be executed.
    #[error("{0}")]
    Usage(String),
    /// A model folder, checkpoint or weight file cannot be used.
    #[error("{}: {message}", path.display())]
    Model {
        /// Folder or file concerned.
        path: PathBuf,
        /// What is wrong and how to fix it.
        message: String,
    },
    /// Training or evaluation stopped at an invalid number (NaN, a missing gradient, …).
    #[error("{0}")]
    Numeric(String),
    /// The model hub could not be reached, or refused the request.
    #[error("hub: {0}")]
    Hub(String),
    /// The tensor library returned an error.
    #[error("tensor: {0}")]
    Tensor(#[from] candle_core::Error),
}

/// Location of malformed input data, and the remedy.
#[derive(Debug, Default, Clone)]
pub struct DataError {
    /// File with the malformed data.
    pub file: PathBuf,
    /// 1-based line (or row) number.
    pub line: Option<u64>,
    /// Column or field name.
    pub field: Option<String>,
    /// What is wrong.
    pub message: String,
    /// How the user can fix it.
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
    /// Creates a data error in `file`.
    pub fn new(file: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Self { file: file.as_ref().into(), message: message.into(), ..Self::default() }
    }
    /// Sets the 1-based line.
    pub fn line(mut self, line: u64) -> Self {
        self.line = Some(line);
        self
    }
    /// Sets the field's name.
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }
    /// Sets the remedy.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// Description of a defect of the file itself, from the kind of an I/O error; `None` for failures of the system or
/// disk.
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
    /// Converts an I/O error to [`Error::Io`] with the path concerned.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { path, source }
    }
    /// Converts an I/O error on a file of a model, a run, a checkpoint or an adapter. A file that is missing, a folder
    /// or damaged is [`Error::Model`]; other failures are [`Error::Io`].
    pub fn model_io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| match defect(&source) {
            Some(m) => Self::Model { path, message: format!("{m}; fetch or write its folder again") },
            None => Self::Io { path, source },
        }
    }
    /// As [`Error::model_io`], for a file of a data set or of an import: [`Error::Data`] instead of [`Error::Model`].
    pub fn data_io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| match defect(&source) {
            Some(m) => DataError::new(path, m).remedy("check the path, or make the file again").into(),
            None => Self::Io { path, source },
        }
    }
    /// Creates an error of a setting, by its dotted name.
    pub fn config(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Config { key: key.into(), message: message.into() }
    }
    /// Creates an error of a model or checkpoint.
    pub fn model(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Self::Model { path: path.as_ref().into(), message: message.into() }
    }
    /// Exit code of the process: 1 internal or I/O, 2 usage or config, 3 data, 4 model or checkpoint, 5 numeric
    /// failure, 6 hub.
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
