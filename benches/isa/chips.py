#!/usr/bin/env python3
"""What Mesa's drivers for Intel, NVIDIA (NVK), Adreno (Turnip) and Apple M1 (Honeykrisp) make of the kernels, without these chips.

    cargo test --release --test isa --no-run
    python3 benches/isa/chips.py                       # tables of what runs by default, and chips.tsv with all kernels
    python3 benches/isa/chips.py --chip dg2 --chip m1  # some of them
    python3 benches/isa/chips.py --build-only

The drivers are those of Debian 13 (trixie) and of its backports. Mesa can put a "shim" between a driver and the kernel, which
answers as if a chip were there. Debian does not build these shims, so they are built from its source package of Mesa. All of that
goes into one folder (default: target/isa-drivers, 1.1 GB) and is made once; the system's own packages stay as they are. What is
missing is named with the packages to install.

It needs Linux, apt-get and Debian's keyring. The test runs with trixie's C library: one that was built on a newer system needs
`--test` with one that was not. Tried on x86-64.
"""
import argparse, glob, json, os, re, shutil, subprocess, sys

STABLE, BACKPORTS = "trixie", "trixie-backports"
MIRROR, KEYRING = "http://deb.debian.org/debian", "/usr/share/keyrings/debian-archive-keyring.gpg"

# Chip: driver, release of Debian, what the driver calls it, and the environment that tells the shim of it. Backports have the
# newer Mesa; trixie's own has neither Turnip nor Honeykrisp for x86-64.
CHIPS = {
    "tgl": ("intel", STABLE, "TGL", {"INTEL_STUB_GPU_PLATFORM": "tgl"}),
    "dg2": ("intel", STABLE, "DG2", {"INTEL_STUB_GPU_PLATFORM": "dg2"}),
    "lnl": ("intel", STABLE, "LNL", {"INTEL_STUB_GPU_PLATFORM": "lnl"}),
    "bmg": ("intel", STABLE, "BMG", {"INTEL_STUB_GPU_PLATFORM": "bmg"}),
    "dg2-new": ("intel", BACKPORTS, "DG2", {"INTEL_STUB_GPU_PLATFORM": "dg2"}),
    "bmg-new": ("intel", BACKPORTS, "BMG", {"INTEL_STUB_GPU_PLATFORM": "bmg"}),
    "turing": ("nouveau", BACKPORTS, "NV", {"NOUVEAU_CHIPSET": "160", "NVK_I_WANT_A_BROKEN_VULKAN_DRIVER": "1"}),
    "ampere": ("nouveau", BACKPORTS, "NV", {"NOUVEAU_CHIPSET": "170", "NVK_I_WANT_A_BROKEN_VULKAN_DRIVER": "1"}),
    # Turnip ends the program where a kernel does not fit the chip.
    "a660": ("freedreno", BACKPORTS, "660", {"FD_GPU_ID": "660", "CAREFUL": "1", "RAYON_NUM_THREADS": "1"}),
    "m1": ("asahi", BACKPORTS, "M1", {}),
}
# The drivers' names for the same, and what one counts: bytes where it is not said.
FIELDS = {
    "registers": ["Max live registers", "Number of GPRs", "Registers used", "GPRs"],
    "spills": ["Spill Count", "Spills to memory", "STP Count", "Spills"],
    "scratch": ["Scratch Memory Size", "SLM size", "SLM Size", "Scratch"],
    "code": ["Code Size", "Code size"],
    "instructions": ["Instruction Count", "Instruction count", "Instructions"],
    "loops": ["Loop Count", "Loops"],
    "occupancy": ["Max warps/SM", "Max Waves Per Core", "Threads", "Max dispatch width"],
}
MEANING = {
    "intel": "registers: the most that are live at once; spills: registers stored; occupancy: lanes of a subgroup",
    "nouveau": "registers: a thread's; spills: registers stored to memory; scratch: bytes a thread; occupancy: warps an SM",
    "freedreno": "registers: vectors of four; spills: stores to private memory; code: words; occupancy: waves a core",
    "asahi": "registers: of 16 bits; scratch: bytes a thread; occupancy: threads a core",
}
SHIMS = {
    "intel": "src/intel/tools/libintel_noop_drm_shim.so",
    "nouveau": "src/nouveau/drm-shim/libnouveau_noop_drm_shim.so",
    "freedreno": "src/freedreno/drm-shim/libfreedreno_noop_drm_shim.so",
    "asahi": "src/asahi/drm-shim/libasahi_noop_drm_shim.so",
}
# NVK's shim comes with the gallium driver alone, the others with the tools.
OPTIONS = ("-Dbuildtype=release -Dtools=drm-shim,intel,freedreno,asahi -Dgallium-drivers=nouveau -Dvulkan-drivers= -Dplatforms= "
           "-Dopengl=false -Dglx=disabled -Degl=disabled -Dgbm=disabled -Dgles1=disabled -Dgles2=disabled -Dllvm=disabled "
           "-Dvalgrind=disabled -Dlibunwind=disabled -Dzstd=disabled -Dxmlconfig=disabled").split()
# trixie's shims speak to trixie's drivers. Those of the backports ask more of the kernel: Turnip binds memory by ioctl 13, and
# Honeykrisp has the interface that Linux 6.16 took in. Files, and what is replaced there.
EDITS = {
    "src/freedreno/drm-shim/freedreno_noop.c": [
        (r"(\n.*SUBMITQUEUE_QUERY\] = msm_ioctl_noop,)", r"\1\n   [13] = msm_ioctl_noop,"),
    ],
    "src/asahi/drm-shim/asahi_noop.c": [
        (r'"\.\./lib/unstable_asahi_drm\.h"', '"drm-uapi/asahi_drm.h"'),
        (r"\n.*(unstable_uabi_version|vm_usc_|vm_page_size).*", ""),
        (r"\.vm_user_start = .*", ".vm_start = 0x4000,"),
        (r"\.vm_user_end = .*", ".vm_end = 1ull << 38,"),
        (r"DRM_ASAHI_GEM_BIND\]", "DRM_ASAHI_VM_BIND]"),
    ],
}
# Stands before Vulkan's loader: a kernel that the driver refuses becomes one without statistics, so that the test goes on. With
# CAREFUL set another process tries each kernel first, for drivers that end the program.
CAREFUL = r"""
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vulkan/vulkan_core.h>

static PFN_vkGetInstanceProcAddr instance_address;
static PFN_vkGetDeviceProcAddr device_address;
static PFN_vkCreateComputePipelines create;
static PFN_vkGetPipelineExecutablePropertiesKHR properties;

static VkResult careful_create(VkDevice device, VkPipelineCache cache, uint32_t count, const VkComputePipelineCreateInfo *info,
                               const VkAllocationCallbacks *memory, VkPipeline *made)
{
   int status = 0;
   if (getenv("CAREFUL")) {
      pid_t child = fork();
      if (child == 0)
         _exit(create(device, cache, count, info, memory, made) != VK_SUCCESS);
      if (child < 0 || waitpid(child, &status, 0) != child)
         return VK_ERROR_OUT_OF_HOST_MEMORY;
   }
   if (status || create(device, cache, count, info, memory, made) != VK_SUCCESS)
      memset(made, 0, count * sizeof *made);
   return VK_SUCCESS;
}

static VkResult careful_properties(VkDevice device, const VkPipelineInfoKHR *info, uint32_t *count,
                                   VkPipelineExecutablePropertiesKHR *found)
{
   if (info->pipeline)
      return properties(device, info, count, found);
   *count = 0;
   return VK_SUCCESS;
}

static PFN_vkVoidFunction of_device(VkDevice device, const char *name)
{
   PFN_vkVoidFunction found = device_address(device, name);
   if (!strcmp(name, "vkCreateComputePipelines")) {
      create = (PFN_vkCreateComputePipelines)found;
      return (PFN_vkVoidFunction)careful_create;
   }
   if (!strcmp(name, "vkGetPipelineExecutablePropertiesKHR")) {
      properties = (PFN_vkGetPipelineExecutablePropertiesKHR)found;
      return (PFN_vkVoidFunction)careful_properties;
   }
   return found;
}

PFN_vkVoidFunction vkGetInstanceProcAddr(VkInstance instance, const char *name)
{
   if (!instance_address)
      instance_address = (PFN_vkGetInstanceProcAddr)dlsym(dlopen(getenv("CAREFUL_LOADER"), RTLD_NOW), "vkGetInstanceProcAddr");
   PFN_vkVoidFunction found = instance_address(instance, name);
   if (strcmp(name, "vkGetDeviceProcAddr"))
      return found;
   device_address = (PFN_vkGetDeviceProcAddr)found;
   return (PFN_vkVoidFunction)of_device;
}
"""


class Missing(Exception):
    """What is not here, with the remedy."""


def run(*command, **more):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", **more)
    if done.returncode:
        raise Missing(f"`{' '.join(command)}` failed:\n{done.stdout[-2000:]}")
    return done.stdout


class Apt:
    """apt-get with lists and settings of its own, so that the system's sources need not name trixie."""

    def __init__(self, folder):
        if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
            raise Missing("there is no apt-get or dpkg-deb: this needs Debian or a system made from it")
        if not os.path.exists(KEYRING):
            raise Missing(f"there is no {KEYRING}: apt-get install debian-archive-keyring")
        self.folder, self.fresh = os.path.join(folder, "apt"), False
        os.makedirs(os.path.join(self.folder, "lists", "partial"), exist_ok=True)
        with open(self.path("sources.list"), "w") as file:
            for release in (STABLE, BACKPORTS):
                file.writelines(f"{kind} [signed-by={KEYRING}] {MIRROR} {release} main\n" for kind in ("deb", "deb-src"))
        # No package counts as installed, so that all that a driver needs is fetched with it.
        open(self.path("status"), "w").close()
        with open(self.path("apt.conf"), "w") as file:
            file.write(f'Dir "{self.folder}"; Dir::State "{self.folder}"; Dir::State::status "{self.path("status")}";\n'
                       f'Dir::Cache "{self.folder}/cache"; Dir::Etc::sourcelist "{self.path("sources.list")}";\n'
                       'Dir::Etc::sourceparts "/dev/null"; Dir::Etc::preferencesparts "/dev/null";\n'
                       'APT::Install-Recommends "false"; APT::Sandbox::User "root"; Debug::NoLocking "true";\n')

    def path(self, name):
        return os.path.join(self.folder, name)

    def get(self, *arguments, cwd=None):
        environment = {**os.environ, "APT_CONFIG": self.path("apt.conf"), "LC_ALL": "C"}
        if not self.fresh:
            run("apt-get", "-q", "update", env=environment)
            self.fresh = True
        return run("apt-get", "-q", "-y", *arguments, cwd=cwd or self.folder, env=environment)

    def unpack(self, release, packages, into, alone=False):
        """Packages of a release, and what they depend on unless `alone`, unpacked into a folder."""
        if os.path.exists(os.path.join(into, "complete")):
            return into
        shutil.rmtree(into, ignore_errors=True)
        debs = into + ".debs"
        os.makedirs(os.path.join(debs, "partial"), exist_ok=True)
        if alone:
            self.get("-t", release, "download", *packages, cwd=debs)
        else:
            self.get("-t", release, "--download-only", "-o", f"Dir::Cache::archives={debs}", "install", *packages)
        for deb in glob.glob(os.path.join(debs, "*.deb")):
            run("dpkg-deb", "-x", deb, into)
        shutil.rmtree(debs)
        open(os.path.join(into, "complete"), "w").close()
        return into


def building(environment):
    """The packages that a build needs and that are not here."""
    programs = {"dpkg-source": "dpkg-dev", "gcc": "gcc", "g++": "g++", "ninja": "ninja-build", "bison": "bison", "flex": "flex",
                "pkg-config": "pkg-config"}
    wanted = [package for program, package in programs.items() if not shutil.which(program, path=environment["PATH"])]
    for check, package in (
        ("pkg-config --exists libdrm", "libdrm-dev"), ("pkg-config --exists expat", "libexpat1-dev"),
        ("pkg-config --exists zlib", "zlib1g-dev"), ("python3 -c 'import mako'", "python3-mako"),
        ("python3 -c 'import yaml'", "python3-yaml"), ("python3 -c 'import packaging' || python3 -c 'import distutils'", "python3-packaging"),
    ):
        if subprocess.run(check, shell=True, env=environment, capture_output=True).returncode:
            wanted.append(package)
    if wanted:
        raise Missing(f"the shims cannot be built: apt-get install {' '.join(wanted)}")


def shims(folder, apt):
    """Builds the shims and the library before Vulkan's loader from trixie's source of Mesa."""
    into = os.path.join(folder, "shims")
    made = {driver: os.path.join(into, os.path.basename(path)) for driver, path in SHIMS.items()}
    before = os.path.join(into, "before", "libvulkan.so.1")
    if all(map(os.path.exists, [*made.values(), before])):
        return made, before
    # Debian's Python has Debian's modules.
    environment = {**os.environ, "PATH": "/usr/bin:/bin:" + os.environ.get("PATH", "")}
    building(environment)
    # Debian 12's Meson is too old; this one needs nothing but Python.
    meson = apt.unpack(STABLE, ["meson"], os.path.join(folder, "meson"), alone=True)
    environment["PYTHONPATH"] = os.path.join(meson, "usr/lib/python3/dist-packages")
    source, build = os.path.join(folder, "source"), os.path.join(folder, "build")
    os.makedirs(source, exist_ok=True)
    if not os.path.exists(os.path.join(source, "complete")):
        print("fetching Mesa's source", flush=True)
        for old in glob.glob(os.path.join(source, "mesa-*")):
            shutil.rmtree(old)
        apt.get("source", f"mesa/{STABLE}", cwd=source)
        [mesa] = glob.glob(os.path.join(source, "mesa-*/"))
        kernel = apt.unpack(BACKPORTS, ["linux-libc-dev"], os.path.join(folder, "kernel"), alone=True)
        shutil.copy(os.path.join(kernel, "usr/include/drm/asahi_drm.h"), os.path.join(mesa, "include/drm-uapi"))
        for path, edits in EDITS.items():
            with open(os.path.join(mesa, path)) as file:
                text = file.read()
            for old, new in edits:
                text, count = re.subn(old, new, text)
                if not count:
                    raise Missing(f"{path} is not the one that is known: {old} is not there. EDITS wants a look")
            with open(os.path.join(mesa, path), "w") as file:
                file.write(text)
        open(os.path.join(source, "complete"), "w").close()
    [mesa] = glob.glob(os.path.join(source, "mesa-*/"))
    print("building the shims: some minutes", flush=True)
    if not os.path.exists(os.path.join(build, "build.ninja")):
        shutil.rmtree(build, ignore_errors=True)
        run("python3", os.path.join(meson, "usr/bin/meson"), "setup", build, mesa, *OPTIONS, env=environment)
    run("ninja", "-C", build, *SHIMS.values(), env=environment)
    os.makedirs(os.path.dirname(before), exist_ok=True)
    for driver, path in SHIMS.items():
        shutil.copy(os.path.join(build, path), made[driver])
    text = os.path.join(into, "careful.c")
    with open(text, "w") as file:
        file.write(CAREFUL)
    run("gcc", "-O2", "-shared", "-fPIC", f"-I{mesa}include", text, "-o", before)
    return made, before


def compiled(chip, program, made, before, root):
    """Has the test compile all kernels for a chip: what the driver calls itself, and its lines."""
    driver, _, called, told = CHIPS[chip]
    [libraries] = [os.path.dirname(path) for path in glob.glob(os.path.join(root, "usr/lib/*/libvulkan.so.1"))]
    [linker] = glob.glob(os.path.join(root, "usr/lib*/ld-linux-*.so.*"))
    described = os.path.join(root, f"usr/share/vulkan/icd.d/{driver}_icd.json")
    if not os.path.exists(described):
        raise Missing(f"Debian's mesa-vulkan-drivers has no {os.path.basename(described)} here")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("VK_", "DEEPJ_ISA_", "LD_"))}
    environment.update(told, DEEPJ_ISA_CHIP=chip, VK_DRIVER_FILES=described, VK_ICD_FILENAMES=described,
                       MESA_SHADER_CACHE_DISABLE="true", CAREFUL_LOADER=os.path.join(libraries, "libvulkan.so.1"))
    path = os.path.dirname(before) + ":" + libraries
    done = subprocess.run([linker, "--preload", made[driver], "--library-path", path, program], env=environment,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    if done.returncode:
        raise Missing(f"the test ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    name = next((line["driver"] for line in lines if "driver" in line), "")
    if called not in name:
        raise Missing(f"the driver is one for `{name}`, not for {called}")
    return name, [line for line in lines if "shader" in line]


def taken(statistics):
    """The figures by the names of FIELDS; None where the driver has none."""
    return {field: next((statistics[name] for name in names if name in statistics), None) for field, names in FIELDS.items()}


def shown(value):
    return "-" if value is None else f"{value:,}"


def in_memory(row):
    return row is not None and bool(row["spills"] or row["scratch"])


def tables(found, defaults):
    """Markdown of what runs by default: a table a chip, then what spills anywhere, then the sums."""
    for chip, (name, rows) in found.items():
        print(f"\n### {chip}: {name}\n\n{MEANING[CHIPS[chip][0]]}\n")
        print(f"| kernel | {' | '.join(FIELDS)} |\n|---|{'---:|' * len(FIELDS)}")
        for shader in defaults:
            row = rows.get(shader)
            cells = ["not compiled"] + [""] * (len(FIELDS) - 1) if row is None else map(shown, row.values())
            print(f"| {shader.replace('`', '')} | {' | '.join(cells)} |")
    print(f"\n### Spills or scratch among what runs by default\n\n| kernel | {' | '.join(found)} |\n|---|{'---:|' * len(found)}")

    def cell(row):
        if row is None:
            return "**not compiled**"
        return f"{shown(row['spills'])} / {shown(row['scratch'])}" if in_memory(row) else ""

    for shader in defaults:
        cells = [cell(rows.get(shader)) for _, rows in found.values()]
        if any(cells):
            print(f"| {shader.replace('`', '')} | {' | '.join(cells)} |")
    print(f"\n### How many spill or use scratch\n\n| chip | driver | of {len(defaults)} defaults | of all | not compiled |")
    print("|---|---|---:|---:|---:|")
    for chip, (name, rows) in found.items():
        some = sum(in_memory(rows.get(shader)) for shader in defaults)
        every = sum(map(in_memory, rows.values()))
        print(f"| {chip} | {name} | {some} | {every} of {len(rows)} | {sum(row is None for row in rows.values())} |")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--folder", default="target/isa-drivers", help="where drivers and shims are put (%(default)s)")
    arguments.add_argument("--chip", action="append", choices=CHIPS, help="one chip, not all; may be given more than once")
    arguments.add_argument("--test", help="the test program (the newest target/release/deps/isa-*)")
    arguments.add_argument("--tsv", help="where all kernels are written (chips.tsv in the folder)")
    arguments.add_argument("--build-only", action="store_true", help="fetch and build, compile no kernel")
    given = arguments.parse_args()
    folder = os.path.abspath(given.folder)
    programs = [path for path in glob.glob("target/release/deps/isa-*") if os.access(path, os.X_OK) and os.path.isfile(path)]
    program = given.test or max(programs, key=os.path.getmtime, default=None)
    if not program and not given.build_only:
        sys.exit("there is no test program: cargo test --release --test isa --no-run")
    try:
        apt = Apt(folder)
        made, before = shims(folder, apt)
    except Missing as error:
        sys.exit(str(error))
    found, failed, defaults = {}, {}, set()
    for chip in given.chip or CHIPS:
        release = CHIPS[chip][1]
        try:
            root = apt.unpack(release, ["mesa-vulkan-drivers", "libvulkan1"], os.path.join(folder, release))
            if given.build_only:
                continue
            print(f"{chip} ...", file=sys.stderr, flush=True)
            name, lines = compiled(chip, os.path.abspath(program), made, before, root)
            defaults.update(line["shader"] for line in lines if line["default"])
            # A kernel that the driver refuses has an error instead.
            statistics = {line["shader"]: line.get("statistics") for line in lines}
            found[chip] = name, {shader: taken(of) if of else None for shader, of in statistics.items()}
        except (Missing, OSError, ValueError) as error:
            failed[chip] = str(error)
    if found:
        tsv = given.tsv or os.path.join(folder, "chips.tsv")
        with open(tsv, "w") as file:
            file.write("\t".join(["chip", "driver", "shader", "default", *FIELDS]) + "\n")
            for chip, (name, rows) in found.items():
                for shader, row in rows.items():
                    cells = ["failed"] * len(FIELDS) if row is None else ["-" if v is None else str(v) for v in row.values()]
                    file.write("\t".join([chip, name, shader, str(int(shader in defaults)), *cells]) + "\n")
        tables(found, sorted(defaults))
        print(f"\nAll kernels: {tsv}")
    for chip, reason in failed.items():
        print(f"\nNot here: {chip}: {reason}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
