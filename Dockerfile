# The site, its worker and its clock: one image, run as an ordinary user.
FROM python:3.11-slim-bookworm

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /app

RUN useradd --create-home --uid 10001 searchsite && mkdir /data && chown searchsite:searchsite /data
COPY requirements.lock .
RUN pip install -r requirements.lock
COPY --chown=root:root . .

USER searchsite
ENV SEARCHSITE_DATA_DIR=/data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
CMD ["python", "manage.py", "serve", "--no-worker", "--host", "0.0.0.0"]
