//! The largest block of memory that a thread has task for: a reader that believes a damaged length asks for one that the
//! system grants without complaint, because nothing of it is written.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, watched.
pub struct Watched;

fn note(bytes: usize) {
    LARGEST.try_with(|l| l.set(l.get().max(bytes))).ok();
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        unsafe { System.realloc(at, layout, size) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }
}

/// Forgets what this thread task for so far.
pub fn reset() {
    LARGEST.set(0);
}

/// The largest block this thread has task for since [`reset`], in bytes.
pub fn largest() -> usize {
    LARGEST.get()
}
