/* What CPython keeps for a thread and greenlet does not switch, for tarry.runs.world; and what
 * stands on a frame's value stack, for tarry.runs.held. Both depend on the interpreter's version,
 * so both are compiled against its own headers. A version that is not known here gives a module
 * that cannot be imported, and views are then run again. */

#define PY_SSIZE_T_CLEAN
#if !defined(Py_BUILD_CORE)
#define Py_BUILD_CORE 1
#endif
#include <Python.h>
#include <structmember.h>

#if defined(Py_GIL_DISABLED) || PY_VERSION_HEX < 0x03090000 || PY_VERSION_HEX >= 0x03100000 ||     \
    defined(PYPY_VERSION)
#define KNOWN 0
#else
#define KNOWN 1
#endif

#if KNOWN

#if PY_VERSION_HEX >= 0x030E0000
#include <internal/pycore_frame.h>
#include <internal/pycore_interpframe.h>
#include <internal/pycore_interpframe_structs.h>
#include <internal/pycore_stackref.h>
#elif PY_VERSION_HEX >= 0x030B0000
#include <internal/pycore_frame.h>
#else
#include <frameobject.h>
#endif

/* A thread's own things while the thread has others: the dict behind PyThreadState_GetDict() (up
 * to 3.12 with all of threading.local in it), from 3.13 the key and the sentinel of
 * threading.local, and the hooks of asynchronous generators. */
typedef struct {
    PyObject_HEAD PyObject *dict;
    PyObject *local_key;
    PyObject *local_sentinel;
    PyObject *firstiter;
    PyObject *finalizer;
    int origin_depth;
} World;

static int world_traverse(PyObject *self, visitproc visit, void *arg)
{
    World *world = (World *)self;

    Py_VISIT(Py_TYPE(self));
    Py_VISIT(world->dict);
    Py_VISIT(world->local_key);
    Py_VISIT(world->local_sentinel);
    Py_VISIT(world->firstiter);
    Py_VISIT(world->finalizer);
    return 0;
}

static int world_clear(PyObject *self)
{
    World *world = (World *)self;

    Py_CLEAR(world->firstiter);
    Py_CLEAR(world->finalizer);
    Py_CLEAR(world->dict);
    Py_CLEAR(world->local_key);
    /* The sentinel's end empties every threading.local of what this world had in it. */
    Py_CLEAR(world->local_sentinel);
    return 0;
}

static void world_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    world_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static void exchange_objects(PyObject **a, PyObject **b)
{
    PyObject *kept = *a;

    *a = *b;
    *b = kept;
}

static PyObject *world_swap(PyObject *self, PyObject *unused)
{
    World *world = (World *)self;
    PyThreadState *thread = PyThreadState_Get();
    int depth = thread->coroutine_origin_tracking_depth;

    exchange_objects(&thread->dict, &world->dict);
#if PY_VERSION_HEX >= 0x030D0000
    exchange_objects(&thread->threading_local_key, &world->local_key);
    exchange_objects(&thread->threading_local_sentinel, &world->local_sentinel);
#endif
    exchange_objects(&thread->async_gen_firstiter, &world->firstiter);
    exchange_objects(&thread->async_gen_finalizer, &world->finalizer);
    thread->coroutine_origin_tracking_depth = world->origin_depth;
    world->origin_depth = depth;
    Py_RETURN_NONE;
}

static PyMethodDef world_methods[] = {
    { "swap", world_swap, METH_NOARGS,
        "Exchanges what is in here with what the calling thread has." },
    { NULL, NULL, 0, NULL },
};

static PyType_Slot world_slots[] = {
    { Py_tp_doc, "What belongs to a thread, while the thread has another one's." },
    { Py_tp_traverse, (void *)world_traverse },
    { Py_tp_clear, (void *)world_clear },
    { Py_tp_dealloc, (void *)world_dealloc },
    { Py_tp_methods, world_methods },
    { 0, NULL },
};

static PyType_Spec world_spec = {
    .name = "tarry.runs._threads.World",
    .basicsize = sizeof(World),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = world_slots,
};

#if PY_VERSION_HEX >= 0x030B0000

/* A frame as the interpreter has it: to walk over frame objects would make one for each, which
 * lives as long as its frame. */
typedef _PyInterpreterFrame Frame;

#if PY_VERSION_HEX >= 0x030D0000
#define CODE_OF(frame) _PyFrame_GetCode(frame)
#else
#define CODE_OF(frame) ((frame)->f_code)
#endif

static Frame *frame_of(PyObject *object)
{
    return ((PyFrameObject *)object)->f_frame;
}

/* The frame that called this one; those that stand for a piece of the C stack are left out. */
static Frame *frame_back(Frame *frame)
{
    do
        frame = frame->previous;
#if PY_VERSION_HEX >= 0x030E0000
    while (frame && frame->owner >= FRAME_OWNED_BY_INTERPRETER);
#elif PY_VERSION_HEX >= 0x030C0000
    while (frame && frame->owner == FRAME_OWNED_BY_CSTACK);
#else
    while (0);
#endif
    return frame;
}

/* The value at a place of the frame's stack, borrowed; NULL for none. */
static PyObject *value_at(Frame *frame, int n)
{
#if PY_VERSION_HEX >= 0x030E0000
    _PyStackRef ref = frame->localsplus[CODE_OF(frame)->co_nlocalsplus + n];

    return PyStackRef_IsNull(ref) || PyStackRef_IsTaggedInt(ref) ? NULL
                                                                 : PyStackRef_AsPyObjectBorrow(ref);
#else
    return frame->localsplus[CODE_OF(frame)->co_nlocalsplus + n];
#endif
}

static const unsigned char *read_varint(
    const unsigned char *p, const unsigned char *end, int *value)
{
    int v = 0;

    while (p < end) {
        v = (v << 6) | (*p & 63);
        if (!(*p++ & 64))
            break;
    }
    *value = v;
    return p;
}

/* How much of the frame's stack an exception there would leave in place: the exits of `with` that
 * are open stand in it. */
static int kept_depth(Frame *frame)
{
    PyCodeObject *code = CODE_OF(frame);
    int at = _PyInterpreterFrame_LASTI(frame);
    const unsigned char *p = (const unsigned char *)PyBytes_AS_STRING(code->co_exceptiontable);
    const unsigned char *end = p + PyBytes_GET_SIZE(code->co_exceptiontable);
    int depth = 0;

    while (at >= 0 && p < end) {
        int start, length, target, depth_lasti;

        p = read_varint(p, end, &start);
        p = read_varint(p, end, &length);
        p = read_varint(p, end, &target);
        p = read_varint(p, end, &depth_lasti);
        if (start > at)
            break;
        if (at < start + length)
            depth = depth_lasti >> 1;
    }
    return depth;
}

#else

typedef PyFrameObject Frame;

#define CODE_OF(frame) ((frame)->f_code)

static Frame *frame_of(PyObject *object)
{
    return (PyFrameObject *)object;
}

static Frame *frame_back(Frame *frame)
{
    return frame->f_back;
}

static PyObject *value_at(Frame *frame, int n)
{
    return frame->f_valuestack[n];
}

static int kept_depth(Frame *frame)
{
    return frame->f_iblock > 0 ? frame->f_blockstack[frame->f_iblock - 1].b_level : 0;
}

#endif

static int is_exit(PyObject *name)
{
    return name && PyUnicode_Check(name) &&
           (PyUnicode_CompareWithASCIIString(name, "__exit__") == 0 ||
               PyUnicode_CompareWithASCIIString(name, "__aexit__") == 0);
}

static int is_exit_ascii(const char *name)
{
    return name && (!strcmp(name, "__exit__") || !strcmp(name, "__aexit__"));
}

/* The context manager whose exit `value` is; with the exit apart from its object, as from 3.14,
 * that is the next value. Borrowed. */
static PyObject *manager_of(PyObject *value, PyObject *next)
{
    if (PyMethod_Check(value)) {
        PyObject *function = PyMethod_GET_FUNCTION(value);

        if (PyFunction_Check(function) && is_exit(((PyFunctionObject *)function)->func_name))
            return PyMethod_GET_SELF(value);
        return NULL;
    }
    if (PyCFunction_Check(value))
        return is_exit_ascii(((PyCFunctionObject *)value)->m_ml->ml_name)
                   ? PyCFunction_GET_SELF(value)
                   : NULL;
    if (PyFunction_Check(value))
        return is_exit(((PyFunctionObject *)value)->func_name) ? next : NULL;
    if (Py_IS_TYPE(value, &PyMethodDescr_Type))
        return is_exit_ascii(((PyMethodDescrObject *)value)->d_method->ml_name) ? next : NULL;
    return NULL;
}

static int append_managers(Frame *frame, PyObject *found)
{
    int depth = kept_depth(frame);

    for (int n = 0; n < depth; n++) {
        PyObject *value = value_at(frame, n);
        PyObject *manager =
            value ? manager_of(value, n + 1 < depth ? value_at(frame, n + 1) : NULL) : NULL;

        if (manager && PyList_Append(found, manager) < 0)
            return -1;
    }
    return 0;
}

static PyObject *entered(PyObject *module, PyObject *args)
{
    PyObject *first, *until = Py_None, *marked = NULL, *found = PyList_New(0);

    if (!found ||
        !PyArg_ParseTuple(args, "O!|OO:entered", &PyFrame_Type, &first, &until, &marked)) {
        Py_XDECREF(found);
        return NULL;
    }
    for (Frame *frame = frame_of(first); frame; frame = frame_back(frame)) {
        PyObject *code = (PyObject *)CODE_OF(frame);

        if (code == until)
            break;
        if (append_managers(frame, found) < 0 ||
            (code == marked && PyList_Append(found, marked) < 0)) {
            Py_DECREF(found);
            return NULL;
        }
        if (until == Py_None)
            break;
    }
    return found;
}

static PyMethodDef methods[] = {
    { "entered", entered, METH_VARARGS,
        "entered(frame, until=None, marked=None): the context managers that the frame is in by "
        "`with`, or those of all frames from\n"
        "there up to the one that runs the code object `until`, the innermost frame's first; and "
        "the code object `marked`, where a\n"
        "frame runs it." },
    { NULL, NULL, 0, NULL },
};

static int module_exec(PyObject *module)
{
    PyObject *type = PyType_FromSpec(&world_spec);

    if (!type || PyModule_AddObject(module, "World", type) < 0) {
        Py_XDECREF(type);
        return -1;
    }
    return 0;
}

#else

static PyMethodDef methods[] = { { NULL, NULL, 0, NULL } };

static int module_exec(PyObject *module)
{
    PyErr_SetString(PyExc_ImportError,
        "tarry does not know this version of Python: views are run again, and not suspended");
    return -1;
}

#endif

static PyModuleDef_Slot slots[] = {
    { Py_mod_exec, (void *)module_exec },
    { 0, NULL },
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "tarry.runs._threads",
    .m_doc = "What CPython keeps for a thread, and what stands on its frames' value stacks.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__threads(void);

PyMODINIT_FUNC PyInit__threads(void)
{
    return PyModuleDef_Init(&definition);
}
