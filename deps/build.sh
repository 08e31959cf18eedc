#!/usr/bin/env bash
# Fetches and builds what deps/deps.lock pins, once per lock and machine type.
#
#   deps/build.sh all      fetch, verify and build everything (the default)
#   deps/build.sh models   fetch and verify the models only
#   deps/build.sh server   also build llama-server and llama-bench, for comparisons
#   deps/build.sh extra    fetch and verify the models that only comparisons need (240 MB)
#   deps/build.sh path     print the folder that holds the result
#
# DARKBLOOM_GPU=cuda builds llama.cpp for NVIDIA GPUs as well (it needs nvcc); a Mac's GPU is always used.
#
# DARKBLOOM_CPU=portable builds for every x86-64 processor with AVX2, FMA, F16C and BMI2 (since about 2013), instead of for this one.
#
# The result lives in a cache outside the clone, so a second clone finds it built:
# ${DARKBLOOM_CACHE:-${XDG_CACHE_HOME:-~/.cache}/darkbloom}/deps/<hash of lock, recipe, CPU and GPU>.
# build/deps in the clone is a link to it.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")
lock=$here/deps.lock
recipe=1 # raise it when the way something is built changes, so that every cache is rebuilt

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
die() { printf 'deps: %s\n' "$*" >&2; exit 1; }

digest() { if command -v sha256sum >/dev/null; then sha256sum "$@"; else shasum -a 256 "$@"; fi | cut -d' ' -f1; }

cpu_features() { # llama.cpp is built for this CPU, so the cache is keyed by its features too
	if [ -r /proc/cpuinfo ]; then grep -m1 -E '^(flags|Features)' /proc/cpuinfo | tr ' ' '\n' | sort | digest -
	else sysctl -n machdep.cpu.brand_string 2>/dev/null | digest -; fi
}

pins=$(grep -vE '^(#|$)' "$lock")
base=$(grep -v '^extra-' <<<"$pins") # what is built does not depend on the extra models
gpu=${DARKBLOOM_GPU:-}
case $gpu in "" | cuda) ;; *) die "DARKBLOOM_GPU is '$gpu', but only cuda is known: unset it, or set it to cuda" ;; esac
cpu=${DARKBLOOM_CPU:-native}
case $cpu in native | portable) ;; *) die "DARKBLOOM_CPU is '$cpu', but only native and portable are known" ;; esac
key=$({ echo "$base"; echo "recipe $recipe"; if [ "$cpu" = native ]; then cpu_features; else echo "cpu $cpu"; fi; uname -sm; [ -z "$gpu" ] || echo "gpu $gpu"; } | digest - | cut -c1-16)
cache=${DARKBLOOM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/darkbloom}
out=$cache/deps/$key
archives=$cache/archives

pin() { awk -v kind="$1" -v name="$2" -v col="$3" '$1 == kind && $2 == name { print $col }' <<<"$pins"; }

fetch() { # fetch KIND NAME -> path of the verified archive on stdout
	local kind=$1 name=$2 version sha dir file flags=()
	version=$(pin "$kind" "$name" 3) sha=$(pin "$kind" "$name" 4)
	[ -n "$sha" ] || die "$name is not in deps.lock"
	dir=$archives/$name-$version
	file=$(find "$dir" -type f 2>/dev/null | head -n 1)
	if [ -z "$file" ]; then
		say "fetching $name $version"
		mkdir -p "$archives"
		rm -rf "$dir.part"
		[ "$kind" = sdist ] && flags=(--no-binary :all:)
		python3 -m pip download --quiet --disable-pip-version-check --no-deps ${flags[@]+"${flags[@]}"} \
			-d "$dir.part" "$name==$version" >&2 ||
			die "could not fetch $name $version: check the network connection and run the same command again"
		mv "$dir.part" "$dir"
		file=$(find "$dir" -type f | head -n 1)
	fi
	if [ "$(digest "$file")" != "$sha" ]; then
		local got; got=$(digest "$file")
		rm -rf "$dir"
		die "$(basename "$file") has SHA-256 $got, but deps.lock pins $sha.
      The download was damaged or replaced; it has been removed. Run the same command again; if it repeats, do not build."
	fi
	echo "$file"
}

unpack() { # unpack ARCHIVE DIR: into DIR without the archive's top folder
	rm -rf "$2"; mkdir -p "$2"
	tar xzf "$1" -C "$2" --strip-components 1
}

llama_flags=(-G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DCMAKE_POSITION_INDEPENDENT_CODE=ON
	-DGGML_OPENMP=OFF -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF
	-DLLAMA_BUILD_COMMON=ON -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF)

if [ "$gpu" = cuda ]; then
	command -v nvcc >/dev/null || die "DARKBLOOM_GPU=cuda needs nvcc: install NVIDIA's CUDA toolkit and put it on the PATH, or unset DARKBLOOM_GPU"
	llama_flags+=(-DGGML_CUDA=ON -DGGML_CUDA_NCCL=OFF -DCMAKE_CUDA_ARCHITECTURES=native)
fi

if [ "$cpu" = portable ]; then llama_flags+=(-DGGML_NATIVE=OFF); fi

with_ccache() { if command -v ccache >/dev/null; then echo -DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache; fi; }

build_llama() {
	local src=$out/src/llama.cpp archive
	archive=$(fetch sdist llama-cpp-python)
	say "unpacking llama.cpp"
	unpack "$archive" "$out/src/llama-cpp-python"
	rm -rf "$src"; mv "$out/src/llama-cpp-python/vendor/llama.cpp" "$src"; rm -rf "$out/src/llama-cpp-python"
	say "building llama.cpp (about six minutes on two cores, once per machine)"
	# shellcheck disable=SC2046
	cmake -S "$src" -B "$out/src/llama-build" "${llama_flags[@]}" $(with_ccache) \
		-DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_APP=OFF >"$out/llama-configure.log" 2>&1 ||
		{ tail -n 30 "$out/llama-configure.log" >&2; die "llama.cpp could not be configured; the log is $out/llama-configure.log"; }
	cmake --build "$out/src/llama-build" --target llama llama-common >"$out/llama-build.log" 2>&1 ||
		{ tail -n 30 "$out/llama-build.log" >&2; die "llama.cpp could not be built; the log is $out/llama-build.log"; }
	mkdir -p "$out/lib" "$out/include/llama"
	find "$out/src/llama-build" -name '*.a' -exec cp {} "$out/lib/" \;
	cp "$src"/include/*.h "$src"/ggml/include/*.h "$src"/common/*.h "$out/include/llama/"
	cp -R "$src/vendor/nlohmann" "$out/include/llama/"
}

build_one() { # build_one NAME SDIST SUBDIR FILES...: a static library of those C files of SUBDIR
	local name=$1 dir=$out/src/$1 sub=$3 archive
	archive=$(fetch sdist "$2")
	say "building $name"
	unpack "$archive" "$dir"
	mkdir -p "$out/lib" "$out/include"
	local objects=() source object
	for source in "${@:4}"; do
		object=$dir/$(basename "$source" .c).o
		cc -O3 -fPIC -DNDEBUG -I"$dir/$sub" -I"$dir/$sub/include" -c "$dir/$sub/$source" -o "$object" ||
			die "$name could not be compiled"
		objects+=("$object")
	done
	ar rcs "$out/lib/lib$name.a" "${objects[@]}"
	find "$dir/$sub" -name "$name.h" -exec cp {} "$out/include/" \;
}

models() {
	mkdir -p "$out/models"
	local name from sha archive
	while read -r _ name from sha; do
		[ -f "$out/models/$name" ] && continue
		archive=$(fetch wheel "$from")
		say "unpacking $name"
		python3 - "$archive" "$name" "$out/models/$name.part" <<'PY'
import shutil, sys, zipfile
archive, name, target = sys.argv[1:]
with zipfile.ZipFile(archive) as wheel:
    member = next(m for m in wheel.namelist() if m.endswith("/" + name))
    with wheel.open(member) as source, open(target, "wb") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)
PY
		[ "$(digest "$out/models/$name.part")" = "$sha" ] || die "$name does not have the SHA-256 that deps.lock pins; nothing was installed"
		mv "$out/models/$name.part" "$out/models/$name"
	done < <(awk '$1 == "model"' <<<"$pins")
}

extra() {
	mkdir -p "$out/models"
	local name from wheel sha pieces=()
	while read -r _ name from sha; do
		[ -f "$out/models/$name" ] && continue
		pieces=()
		for wheel in ${from//+/ }; do pieces+=("$(fetch extra-wheel "$wheel")"); done
		say "joining $name"
		python3 - "$name" "$out/models/$name.part" "${pieces[@]}" <<'PY'
import shutil, sys, zipfile
name, target, *archives = sys.argv[1:]
with open(target, "wb") as sink:
    for number, archive in enumerate(archives):
        with zipfile.ZipFile(archive) as wheel:
            member = next(m for m in wheel.namelist() if m.endswith(f"/{name}.part{number:02d}"))
            with wheel.open(member) as source:
                shutil.copyfileobj(source, sink, 1 << 20)
PY
		[ "$(digest "$out/models/$name.part")" = "$sha" ] || die "$name does not have the SHA-256 that deps.lock pins; nothing was installed"
		mv "$out/models/$name.part" "$out/models/$name"
	done < <(awk '$1 == "extra-model"' <<<"$pins")
}

link() { mkdir -p "$top/build"; ln -sfn "$out" "$top/build/deps"; }

all() {
	mkdir -p "$out"
	if [ ! -f "$out/.complete" ]; then
		build_one yyjson yyjson yyjson yyjson.c
		build_one llhttp httptools vendor/llhttp src/api.c src/http.c src/llhttp.c
		build_llama
		models
		if [ "$cpu" = portable ]; then touch "$out/.portable"; fi # CMakeLists.txt compiles our own files alike
		touch "$out/.complete"
	fi
	link
}

server() {
	all
	[ -x "$out/src/llama-build/bin/llama-server" ] && return
	say "building llama-server and llama-bench (about four minutes on two cores, once per machine)"
	cmake -S "$out/src/llama.cpp" -B "$out/src/llama-build" -DLLAMA_BUILD_TOOLS=ON -DLLAMA_BUILD_SERVER=ON >"$out/llama-server.log" 2>&1 &&
		cmake --build "$out/src/llama-build" --target llama-server llama-bench >>"$out/llama-server.log" 2>&1 ||
		{ tail -n 30 "$out/llama-server.log" >&2; die "llama-server could not be built; the log is $out/llama-server.log"; }
}

case ${1:-all} in
all) all ;;
models) mkdir -p "$out"; models; link ;;
server) server ;;
extra) mkdir -p "$out"; extra; link ;;
path) echo "$out" ;;
*) sed -n '2,13s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
