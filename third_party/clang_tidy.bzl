"""An aspect that runs clang-tidy on every C++ source of ours, cached like any other action.

    bazel build --config=clang-tidy //...
"""

def _sources(ctx):
    files = []
    for attribute in ("srcs", "hdrs"):
        for target in getattr(ctx.rule.attr, attribute, []):
            files += [f for f in target.files.to_list() if f.is_source and f.extension in ("cc", "h")]
    return files

def _clang_tidy_impl(target, ctx):
    if CcInfo not in target or ctx.label.workspace_name:
        return []
    sources = _sources(ctx)
    if not any([f.extension == "cc" for f in sources]):
        return []
    context = target[CcInfo].compilation_context
    flags = ["-std=c++20", "-Wno-unknown-warning-option"]
    flags += ["-iquote" + path for path in context.quote_includes.to_list()]
    flags += ["-I" + path for path in context.includes.to_list()]
    flags += ["-isystem" + path for path in context.system_includes.to_list()]
    flags += ["-D" + define for define in context.defines.to_list()]
    stamps = []
    for source in sources:
        if source.extension != "cc":
            continue
        stamp = ctx.actions.declare_file("{}.{}.clang-tidy".format(ctx.label.name, source.basename))
        ctx.actions.run_shell(
            inputs = depset(sources + ctx.files._config, transitive = [context.headers]),
            outputs = [stamp],
            command = "clang-tidy-19 --quiet --config-file={config} {source} -- {flags} 2>{stamp} >{stamp}.out || {{ cat {stamp}.out {stamp}; exit 1; }}".format(
                config = ctx.files._config[0].path,
                source = source.path,
                flags = " ".join(flags),
                stamp = stamp.path,
            ),
            mnemonic = "ClangTidy",
            progress_message = "clang-tidy " + source.short_path,
            use_default_shell_env = True,
        )
        stamps.append(stamp)
    return [OutputGroupInfo(clang_tidy = depset(stamps))]

clang_tidy = aspect(
    implementation = _clang_tidy_impl,
    attrs = {
        "_config": attr.label(default = "//:.clang-tidy", allow_files = True),
    },
)
