//! Microsoft's shader compiler as a library, by its COM interface (`dxcapi.h` of
//! <https://github.com/microsoft/DirectXShaderCompiler>), as far as compiling a text needs it.
//!
//! Interfaces are tables of functions. On systems other than Windows this build has, behind the three functions of
//! `IUnknown`, two places for its destructor, and `wchar_t` of four bytes.

use std::ffi::c_void;
use std::path::Path;
use std::ptr::{null, null_mut};

use libloading::Library;

type Hresult = i32;

#[repr(C)]
struct Guid(u32, u16, u16, [u8; 8]);

const COMPILER: Guid = Guid(0x73e22d93, 0xe6ce, 0x47f3, [0xb5, 0xbf, 0xf0, 0x66, 0x4f, 0x39, 0xc1, 0xb0]);
const I_COMPILER: Guid = Guid(0x228b4687, 0x5a6a, 0x4730, [0x90, 0x0c, 0x97, 0x02, 0xb2, 0x20, 0x3f, 0x54]);
const I_VERSION_INFO: Guid = Guid(0xb04f5b50, 0x2059, 0x4f12, [0xa8, 0xff, 0xa1, 0xe0, 0xcd, 0xe1, 0xcc, 0x7e]);
const I_OPERATION_RESULT: Guid = Guid(0xcedb484a, 0xd4e9, 0x445a, [0xb9, 0x91, 0xca, 0x21, 0xca, 0x15, 0x7d, 0xc2]);

/// `DXC_CP_UTF8`.
const UTF8: u32 = 65001;

// Places in the tables.
const RELEASE: usize = 2;
const FIRST: usize = 5;

#[repr(C)]
struct Buffer {
    text: *const u8,
    len: usize,
    encoding: u32,
}

/// A pointer to an interface, which is let go of in the end.
struct Com(*mut *const *const c_void);

impl Com {
    /// What a function wrote through its last argument.
    fn made(make: impl FnOnce(*mut *mut c_void) -> Hresult) -> Result<Self, String> {
        let mut object = null_mut();
        match make(&mut object) {
            0.. if !object.is_null() => Ok(Self(object.cast())),
            code => Err(format!("DXC fails with {code:#x}")),
        }
    }

    /// The function at this place of its table.
    ///
    /// # Safety
    /// `F` is that function's type, the object itself its first argument.
    unsafe fn function<F: Copy>(&self, place: usize) -> F {
        // SAFETY: an interface starts with a pointer to its table, and the caller vouches for the place and the type.
        unsafe { (*self.0).add(place).cast::<F>().read() }
    }
}

impl Drop for Com {
    fn drop(&mut self) {
        type Release = unsafe extern "C" fn(*mut c_void) -> u32;
        // SAFETY: every interface has this function here, and nobody uses the pointer any more.
        unsafe { self.function::<Release>(RELEASE)(self.0.cast()) };
    }
}

/// The library.
pub struct Dxc(Library);

impl Dxc {
    /// Loads the library at `path`.
    ///
    /// # Errors
    /// A file that is none.
    pub fn load(path: &Path) -> Result<Self, String> {
        // SAFETY: what it runs when it is loaded is its own affair; it is the one that .ci/compilers overrides.
        unsafe { Library::new(path) }.map(Self).map_err(|error| error.to_string())
    }

    fn create(&self, class: &Guid, interface: &Guid) -> Result<Com, String> {
        type Create = unsafe extern "C" fn(*const Guid, *const Guid, *mut *mut c_void) -> Hresult;
        // SAFETY: this is the function's type.
        let create = unsafe { self.0.get::<Create>(b"DxcCreateInstance\0") }.map_err(|error| error.to_string())?;
        // SAFETY: all pointers live as long as the call.
        Com::made(|made| unsafe { create(class, interface, made) })
    }

    /// Major and minor version.
    ///
    /// # Errors
    /// What DXC says.
    pub fn version(&self) -> Result<(u32, u32), String> {
        type GetVersion = unsafe extern "C" fn(*mut c_void, *mut u32, *mut u32) -> Hresult;
        let info = self.create(&COMPILER, &I_VERSION_INFO)?;
        let (mut major, mut minor) = (0, 0);
        // SAFETY: `IDxcVersionInfo` begins with this function.
        match unsafe { info.function::<GetVersion>(FIRST)(info.0.cast(), &mut major, &mut minor) } {
            0.. => Ok((major, minor)),
            code => Err(format!("DXC fails with {code:#x}")),
        }
    }

    /// A compiler, for one thread.
    ///
    /// # Errors
    /// What DXC says.
    pub fn compiler(&self) -> Result<Compiler<'_>, String> {
        Ok(Compiler { com: self.create(&COMPILER, &I_COMPILER)?, _dxc: self })
    }
}

/// An `IDxcCompiler3`.
pub struct Compiler<'a> {
    com: Com,
    _dxc: &'a Dxc,
}

impl Compiler<'_> {
    /// Compiles `source` with these arguments, and returns the object, and all that the compiler says.
    ///
    /// # Errors
    /// A compiler that does not come to say anything.
    pub fn compile(&self, source: &[u8], arguments: &[&str]) -> Result<(Vec<u8>, String), String> {
        type Compile = unsafe extern "C" fn(
            *mut c_void,
            *const Buffer,
            *const *const u32,
            u32,
            *const c_void,
            *const Guid,
            *mut *mut c_void,
        ) -> Hresult;
        type GetBlob = unsafe extern "C" fn(*mut c_void, *mut *mut c_void) -> Hresult;
        let wide: Vec<Vec<u32>> =
            arguments.iter().map(|argument| argument.chars().map(u32::from).chain([0]).collect()).collect();
        let wide: Vec<*const u32> = wide.iter().map(|argument| argument.as_ptr()).collect();
        let source = Buffer { text: source.as_ptr(), len: source.len(), encoding: UTF8 };
        let (this, count) = (self.com.0.cast(), wide.len() as u32);
        // SAFETY: `IDxcCompiler3` begins with this function, and all pointers live as long as the call.
        let result = Com::made(|result| unsafe {
            let compile = self.com.function::<Compile>(FIRST);
            compile(this, &source, wide.as_ptr(), count, null(), &I_OPERATION_RESULT, result)
        })?;
        // SAFETY: `IDxcOperationResult` has GetStatus, GetResult and GetErrorBuffer.
        let blob = |place| Com::made(|blob| unsafe { result.function::<GetBlob>(place)(result.0.cast(), blob) });
        let object = blob(FIRST + 1).map(|object| bytes(&object)).unwrap_or_default();
        let message = blob(FIRST + 2).map(|message| bytes(&message)).unwrap_or_default();
        Ok((object, String::from_utf8_lossy(&message).trim_end_matches('\0').trim().into()))
    }
}

/// What is in an `IDxcBlob`.
fn bytes(blob: &Com) -> Vec<u8> {
    type GetPointer = unsafe extern "C" fn(*mut c_void) -> *const u8;
    type GetSize = unsafe extern "C" fn(*mut c_void) -> usize;
    // SAFETY: the interface begins with these two, and the bytes live as long as it.
    unsafe {
        let start = blob.function::<GetPointer>(FIRST)(blob.0.cast());
        let len = blob.function::<GetSize>(FIRST + 1)(blob.0.cast());
        if start.is_null() { vec![] } else { std::slice::from_raw_parts(start, len).to_vec() }
    }
}
