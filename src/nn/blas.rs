//! Optional BLAS library behind [`gemm`](super::gemm): MKL or OpenBLAS opened at run time (feature `blas`), or Apple's
//! Accelerate linked in (feature `accelerate`). Without these features, or if `MOREC_BLAS` names no library, pure-Rust
//! kernels are used.
//!
//! `MOREC_BLAS` is `mkl`, `openblas`, a path to a shared library with a Fortran `sgemm_`, or `rust` for the default
//! kernels.

use crate::error::{Error, Result};
use std::sync::OnceLock;

/// Environment variable that names the library.
pub const VARIABLE: &str = "MOREC_BLAS";

/// Fortran's sgemm. Sizes are passed as i64; on little-endian machines a library with 32-bit integers reads the same
/// values.
pub(super) type Sgemm = unsafe extern "C" fn(
    *const u8,
    *const u8,
    *const i64,
    *const i64,
    *const i64,
    *const f32,
    *const f32,
    *const i64,
    *const f32,
    *const i64,
    *const f32,
    *mut f32,
    *const i64,
);

/// An opened library.
pub(super) struct Library {
    pub(super) sgemm: Sgemm,
    name: String,
}

static LIBRARY: OnceLock<std::result::Result<Option<Library>, String>> = OnceLock::new();

fn opened() -> &'static std::result::Result<Option<Library>, String> {
    LIBRARY.get_or_init(|| {
        let wanted = match std::env::var(VARIABLE) {
            Err(std::env::VarError::NotUnicode(v)) => return Err(format!("{v:?} is not Unicode")),
            v => v.unwrap_or_default(),
        };
        match wanted.as_str() {
            "rust" => Ok(None),
            "" => Ok(linked()),
            name => open(name).map(Some),
        }
    })
}

/// The library that computes matrix products, or `None` for the pure-Rust kernels.
pub(super) fn library() -> Option<&'static Library> {
    opened().as_ref().ok().and_then(Option::as_ref)
}

/// Name of the library in use, if any.
pub fn name() -> Option<&'static str> {
    library().map(|l| l.name.as_str())
}

/// Checks that the library that `MOREC_BLAS` names can be used.
///
/// # Errors
/// [`Error::Usage`] with the reason, if it cannot be loaded.
pub fn check() -> Result<()> {
    opened().as_ref().map(|_| ()).map_err(|m| Error::Usage(format!("{VARIABLE}: {m}; unset it to use our own kernels")))
}

#[cfg(all(feature = "accelerate", target_os = "macos"))]
fn linked() -> Option<Library> {
    #[link(name = "Accelerate", kind = "framework")]
    unsafe extern "C" {
        fn sgemm_(
            ta: *const u8,
            tb: *const u8,
            m: *const i64,
            n: *const i64,
            k: *const i64,
            alpha: *const f32,
            a: *const f32,
            lda: *const i64,
            b: *const f32,
            ldb: *const i64,
            beta: *const f32,
            c: *mut f32,
            ldc: *const i64,
        );
    }
    Some(Library { sgemm: sgemm_, name: "Accelerate".into() })
}

#[cfg(not(all(feature = "accelerate", target_os = "macos")))]
fn linked() -> Option<Library> {
    None
}

#[cfg(not(feature = "blas"))]
fn open(name: &str) -> std::result::Result<Library, String> {
    Err(format!("`{name}` is asked for, but this program was built without --features blas"))
}

#[cfg(feature = "blas")]
fn open(name: &str) -> std::result::Result<Library, String> {
    let files: Vec<&str> = match name {
        "mkl" => vec!["libmkl_rt.so.3", "libmkl_rt.so.2", "libmkl_rt.so", "mkl_rt.2.dll", "mkl_rt.dll"],
        "openblas" => vec!["libopenblas.so.0", "libopenblas.so", "libopenblas.dylib", "libopenblas.dll"],
        path => vec![path],
    };
    let mut first = None;
    for file in &files {
        // SAFETY: loading runs the library's initialisers; the user named it as a BLAS.
        match unsafe { libloading::Library::new(*file) } {
            Ok(lib) => return with(lib, file),
            Err(e) => first = first.or(Some(e.to_string())),
        }
    }
    Err(format!("`{name}` cannot be loaded: {}", first.unwrap_or_default()))
}

#[cfg(feature = "blas")]
fn with(lib: libloading::Library, file: &str) -> std::result::Result<Library, String> {
    // One thread per call: the calls come from several threads already.
    let quiet: [(&[u8], i32); 5] = [
        (b"MKL_Set_Threading_Layer", 1),
        (b"openblas_set_num_threads", 1),
        (b"openblas_set_num_threads64_", 1),
        (b"scipy_openblas_set_num_threads", 1),
        (b"scipy_openblas_set_num_threads64_", 1),
    ];
    for (symbol, value) in quiet {
        // SAFETY: these functions take one int in every version of these libraries.
        if let Ok(f) = unsafe { lib.get::<unsafe extern "C" fn(i32) -> i32>(symbol) } {
            unsafe { f(value) };
        }
    }
    let symbols: [&[u8]; 4] = [b"sgemm_", b"sgemm_64_", b"scipy_sgemm_", b"scipy_sgemm_64_"];
    for symbol in symbols {
        // SAFETY: under these names every BLAS library exports Fortran's sgemm.
        if let Ok(f) = unsafe { lib.get::<Sgemm>(symbol) } {
            let sgemm = *f;
            std::mem::forget(lib); // never unloaded
            let short = std::path::Path::new(file).file_name().map(|n| n.to_string_lossy().into_owned());
            return Ok(Library { sgemm, name: short.unwrap_or_else(|| file.into()) });
        }
    }
    Err(format!("`{file}` has no sgemm_"))
}
