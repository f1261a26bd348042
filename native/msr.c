#include "vprobe_native.h"
