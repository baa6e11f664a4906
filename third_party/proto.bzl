"""C++ code of .proto files, made by Debian's protoc and grpc_cpp_plugin."""

load("@rules_cc//cc:defs.bzl", "cc_library")

def weightd_proto_library(name, protos, grpc_protos = [], imports = [], deps = [], visibility = None):
    """One cc_library with the messages of `protos` and the services of `grpc_protos`.

    Args:
      name: the library.
      protos: .proto files below this package, all compiled as messages.
      grpc_protos: those of `protos` that define services.
      imports: .proto files of this package that `protos` import from elsewhere.
      deps: libraries that the generated code needs.
      visibility: who may depend on the library.
    """
    outs = []
    for proto in protos:
        base = proto[:-len(".proto")]
        outs += [base + ".pb.h", base + ".pb.cc"]
    for proto in grpc_protos:
        base = proto[:-len(".proto")]
        outs += [base + ".grpc.pb.h", base + ".grpc.pb.cc"]

    root = native.package_name()
    grpc_command = ""
    if grpc_protos:
        grpc_command = " && protoc -I{root} --grpc_out=$(GENDIR)/{root} --plugin=protoc-gen-grpc=/usr/bin/grpc_cpp_plugin {files}".format(
            root = root,
            files = " ".join([root + "/" + p for p in grpc_protos]),
        )
    native.genrule(
        name = name + "_gen",
        srcs = protos + imports,
        outs = outs,
        cmd = "protoc -I{root} --cpp_out=$(GENDIR)/{root} {files}".format(
            root = root,
            files = " ".join([root + "/" + p for p in protos]),
        ) + grpc_command,
        visibility = ["//visibility:private"],
    )
    cc_library(
        name = name,
        srcs = [o for o in outs if o.endswith(".cc")],
        hdrs = [o for o in outs if o.endswith(".h")],
        includes = ["."],
        visibility = visibility,
        deps = deps,
    )
