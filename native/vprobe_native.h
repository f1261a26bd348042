#ifndef VPROBE_NATIVE_H
#define VPROBE_NATIVE_H
#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#endif
