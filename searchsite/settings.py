"""All settings of the site, read from the environment. `docs/settings.md` lists them for users."""

from pathlib import Path
from typing import TypedDict

import dj_database_url

from searchsite import environment as env

BASE_DIR = Path(__file__).resolve().parent.parent

# Everything the running site writes lives here, so two shops are two folders.
DATA_DIR = Path(env.get_str("SEARCHSITE_DATA_DIR", str(BASE_DIR / "var"))).resolve()
for folder in ("models", "generations", "queue", "cache", "uploads", "static", "trainings", "spool"):
    (DATA_DIR / folder).mkdir(parents=True, exist_ok=True)

DEBUG = env.get_bool("SEARCHSITE_DEBUG", False)
SECRET_KEY = env.get_secret("SEARCHSITE_SECRET_KEY", DATA_DIR)
ALLOWED_HOSTS = env.get_list("SEARCHSITE_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
CSRF_TRUSTED_ORIGINS = env.get_list("SEARCHSITE_TRUSTED_ORIGINS")

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "django_htmx",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "catalog",
    "retrieval",
    "experiments",
    "searchsite",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "experiments.middleware.VisitorMiddleware",
]
ROOT_URLCONF = "searchsite.urls"
WSGI_APPLICATION = "searchsite.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "searchsite.context.shop",
            ],
        },
    },
]

# --- database, cache, queue: files by default, services when their variable is set ---------------------
_database_url = env.get_url("DATABASE_URL", ("sqlite", "postgres", "postgresql"), f"sqlite:///{DATA_DIR}/shop.sqlite3")
DATABASES = {"default": dj_database_url.parse(_database_url, conn_max_age=600, conn_health_checks=True)}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["OPTIONS"] = {
        # Take the write lock at once: waiting for it works, upgrading a read lock fails.
        "transaction_mode": "IMMEDIATE",
        "timeout": 30,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-32000;",
    }

else:
    DATABASES["default"]["OPTIONS"] = {"connect_timeout": 5}  # seconds: a database that is down is told, not waited for

REDIS_URL = env.get_url("REDIS_URL", ("redis", "rediss", "unix"))
_redis_cache = {
    "BACKEND": "django.core.cache.backends.redis.RedisCache",
    "LOCATION": REDIS_URL,
    # A cache that hangs must not keep requests waiting.
    "OPTIONS": {"socket_connect_timeout": 1, "socket_timeout": 1},
}
CACHES = {
    "default": _redis_cache
    if REDIS_URL
    else {
        "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
        "LOCATION": str(DATA_DIR / "cache"),
    },
    # Counted at every request of the API, where a file would take longer than the search.
    "throttles": _redis_cache | {"KEY_PREFIX": "throttles"}
    if REDIS_URL
    else {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "LOCATION": "throttles",
        "OPTIONS": {"MAX_ENTRIES": 50_000},
    },
}

CELERY_BROKER_URL = env.get_url(
    "CELERY_BROKER_URL", ("redis", "rediss", "amqp", "filesystem"), REDIS_URL or "filesystem://localhost"
)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, object] = {}
if CELERY_BROKER_URL.startswith("filesystem:"):
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "data_folder_in": str(DATA_DIR / "queue"),
        "data_folder_out": str(DATA_DIR / "queue"),
        "control_folder": str(DATA_DIR / "queue"),
    }
elif CELERY_BROKER_URL.startswith(("redis:", "rediss:")):
    # A queue that is down must not keep whoever changes a product waiting; see retrieval.receivers.
    CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_connect_timeout": 2, "socket_timeout": 5}
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 1, "interval_start": 0.1}
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
# Trainings and evaluations take long: they have a worker of their own, and what shoppers see goes on being brought up
# to date.
CELERY_TASK_ROUTES = {
    name: {"queue": "learn"} for name in ("retrieval.tasks.train_model", "experiments.tasks.evaluate_offline")
}
CELERY_BEAT_SCHEDULE_FILENAME = str(DATA_DIR / "beat-schedule")
CELERY_BEAT_SCHEDULE = {
    # What a lost message or a killed worker left undone.
    "index-pending": {"task": "retrieval.tasks.index_pending_products", "schedule": 60.0},
    "resume-imports": {"task": "catalog.tasks.resume_imports", "schedule": 60.0},
    "resume-trainings": {"task": "retrieval.tasks.resume_trainings", "schedule": 60.0},
    "resume-evaluations": {"task": "experiments.tasks.resume_evaluations", "schedule": 60.0},
    "write-events": {"task": "experiments.tasks.write_events", "schedule": 60.0},
    "refresh-reports": {"task": "experiments.tasks.refresh_reports", "schedule": 300.0},
    "sum-searches": {"task": "experiments.tasks.sum_searches", "schedule": 600.0},
    "prune-events": {"task": "experiments.tasks.prune_events", "schedule": 86_400.0},
    "clear-sessions": {"task": "searchsite.tasks.clear_sessions", "schedule": 86_400.0},
}

# --- search -------------------------------------------------------------------------------------------
QDRANT_URL = env.get_url("QDRANT_URL", ("http", "https"))
QDRANT_API_KEY = env.get_str("QDRANT_API_KEY")
# Collections of this shop are named PREFIX-gen-…: shops that share a server need different ones.
QDRANT_PREFIX = env.get_str("QDRANT_PREFIX", "searchsite")


class ShopSettings(TypedDict):
    MODEL: str
    RERANKER: str
    RERANKER_PRECISION: str
    RERANK_BUDGET_MS: int
    CONFIG: str
    LANGUAGE: str
    CURRENCY: str
    SHOP_NAME: str
    HNSW_M: int
    HNSW_EF_CONSTRUCT: int
    QUANTIZATION: str
    VECTOR_DIM: int
    ENCODER_THREADS: int
    RECENT_SEARCHES: int
    EVENTS: bool
    ATTRIBUTION_HOURS: int
    EVENT_RETENTION_DAYS: int
    EVENT_MAX_AGE_DAYS: int


_reranker = env.get_str("SEARCHSITE_RERANKER", "none")

SEARCHSITE: ShopSettings = {
    # Sentence-transformers name or path; 'default' is the model shipped as a Python package.
    "MODEL": env.get_str("SEARCHSITE_MODEL", "default"),
    # Sequence-classification name or path; 'default-reranker' comes with the project.
    "RERANKER": "" if _reranker == "none" else _reranker,
    "RERANKER_PRECISION": env.get_choice("SEARCHSITE_RERANKER_PRECISION", "auto", ("auto", "float", "int8")),
    # What reading products again may add to a search; 0 for as long as the reranker's own depth takes.
    "RERANK_BUDGET_MS": env.get_int("SEARCHSITE_RERANK_BUDGET_MS", 50, minimum=0, maximum=10_000),
    "CONFIG": env.get_str("SEARCHSITE_CONFIG", "hybrid-rerank"),
    "LANGUAGE": env.get_str("SEARCHSITE_LANGUAGE", "english"),
    "CURRENCY": env.get_matching("SEARCHSITE_CURRENCY", "USD", "[A-Z]{3}", "three capital letters such as USD"),
    "SHOP_NAME": env.get_str("SEARCHSITE_SHOP_NAME", "Searchsite"),
    "HNSW_M": env.get_int("SEARCHSITE_HNSW_M", 16, minimum=4, maximum=128),
    "HNSW_EF_CONSTRUCT": env.get_int("SEARCHSITE_HNSW_EF_CONSTRUCT", 100, minimum=8, maximum=2000),
    "QUANTIZATION": env.get_choice("SEARCHSITE_QUANTIZATION", "none", ("none", "int8")),
    # The first dimensions of the vectors, which are searched in; 0 for all.
    "VECTOR_DIM": env.get_int("SEARCHSITE_VECTOR_DIM", 0, minimum=0, maximum=65_536),
    "ENCODER_THREADS": env.get_int("SEARCHSITE_ENCODER_THREADS", 0, minimum=0, maximum=256),
    # Texts whose whole answer each process keeps, for each config and generation: what is asked again costs little.
    "RECENT_SEARCHES": env.get_int("SEARCHSITE_RECENT_SEARCHES", 100, minimum=1, maximum=100_000),
    # Whether what shoppers do is recorded at all.
    "EVENTS": env.get_bool("SEARCHSITE_EVENTS", True),
    # How long after a search what is done with its results is put down to it. A day: one errand, lunch break included;
    # what is bought later was seldom decided by that list.
    "ATTRIBUTION_HOURS": env.get_int("SEARCHSITE_ATTRIBUTION_HOURS", 24, minimum=1, maximum=2160),
    "EVENT_RETENTION_DAYS": env.get_int("SEARCHSITE_EVENT_RETENTION_DAYS", 400, minimum=1, maximum=3650),
    # How old an event may be that the API is told of.
    "EVENT_MAX_AGE_DAYS": env.get_int("SEARCHSITE_EVENT_MAX_AGE_DAYS", 30, minimum=1, maximum=3650),
}

# --- site ---------------------------------------------------------------------------------------------
LANGUAGE_CODE = "en"
TIME_ZONE = env.get_str("SEARCHSITE_TIME_ZONE", "UTC")  # Django names a wrong one at the start
USE_TZ = True
STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
# Served straight from the packages they come in: nothing to collect before the first start.
WHITENOISE_USE_FINDERS = True
WHITENOISE_MAX_AGE = 86_400
MEDIA_ROOT = DATA_DIR / "uploads"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SECURE_CONTENT_TYPE_NOSNIFF = True
if env.get_bool("SEARCHSITE_HTTPS", False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_REDIRECT_EXEMPT = ["^healthz$"]  # asked from inside, without the proxy
    SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
    SECURE_HSTS_SECONDS = 31_536_000
# A file, not a form: imports may be large.
FILE_UPLOAD_TEMP_DIR = str(DATA_DIR / "uploads")

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["searchsite.keys.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.AllowAny"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["searchsite.parsers.StrictJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_THROTTLE_RATES": {
        "search": env.get_rate("SEARCHSITE_SEARCH_RATE", "1200/min"),
        "suggest": env.get_rate("SEARCHSITE_SUGGEST_RATE", "2400/min"),
        "write": env.get_rate("SEARCHSITE_WRITE_RATE", "600/min"),
        "events": env.get_rate("SEARCHSITE_EVENTS_RATE", "6000/min"),
    },
    # How many proxies of your own stand in front: clients are told apart by the address the first of them saw.
    "NUM_PROXIES": env.get_int("SEARCHSITE_PROXIES", 0, minimum=0, maximum=10),
    "EXCEPTION_HANDLER": "searchsite.api.handle_exception",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Searchsite API",
    "DESCRIPTION": "Search a shop's catalogue, complete half-typed queries, keep the catalogue current, read reports.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}
UNFOLD = {
    "SITE_TITLE": "Searchsite",
    "SITE_HEADER": "Searchsite",
    "SITE_SYMBOL": "search",
    "SHOW_HISTORY": True,
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {
        "handlers": ["console"],
        "level": env.get_choice("SEARCHSITE_LOG_LEVEL", "WARNING", ("DEBUG", "INFO", "WARNING", "ERROR")),
    },
}
