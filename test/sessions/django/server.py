"""A backend of one file with Django's own users and sessions; argv[1] is its database."""

import sys
from wsgiref.simple_server import make_server

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, JsonResponse
from django.urls import path

settings.configure(
    SECRET_KEY="canary-django-secret",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1]}},
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    SESSION_SAVE_EVERY_REQUEST=True,
    USE_TZ=True,
)
django.setup()

from django.contrib.auth import authenticate, get_user_model, login  # noqa: E402
from django.core.management import call_command  # noqa: E402


def sign_in(request):
    login(request, authenticate(request, username="alice", password="canary-password"))
    return HttpResponse(status=204)


def me(request):
    return JsonResponse({"id": request.user.pk})


urlpatterns = [path("login", sign_in), path("api/me", me)]

call_command("migrate", verbosity=0)
get_user_model().objects.create_user("alice", password="canary-password")
with make_server("127.0.0.1", 0, get_wsgi_application()) as server:
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
